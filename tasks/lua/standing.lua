#!lua flags=allow-oom
-- Queues requests again that are in no queue although they should be: a worker took their message and died.
-- A group's queue is taken up as a whole: only an empty one has lost something. Of the synchronous one, which is first
-- in, first out, what was pushed before the message that is next has left it, and what was pushed later is still in
-- it, however long that takes: to push it once more would make the queue longer, and where workers are slow, so long
-- that nothing else is done.
-- One that waits for a place is called by whoever ends; only if nobody is sending, it is called here.
-- A message too many does no harm.
--
-- ARGV: key prefix, time (ms) until a request is looked at again, most,
--       message of tasks.request with ID, QUEUE and NOW in place of its id, queue and the time.
-- Returns how many were looked at, and the ids that were queued again.
local prefix, again = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', prefix .. 'standing', '-inf', now, 'LIMIT', 0, ARGV[3])
local queued, nexts, counted = { #due }, {}, {}

local function is_called_by_others(id, group)
  local credential = redis.call('HGET', prefix .. 'group:' .. group, 'credential') or ''
  if not redis.call('ZSCORE', prefix .. 'waiting:' .. credential, id) then
    return false
  end
  return redis.call('ZCOUNT', prefix .. 'calls:' .. credential, now, '+inf') > 0
end

-- When the request was last pushed.
local function pushed(id)
  local r = redis.call('HMGET', prefix .. 'request:' .. id, 'queued', 'pushed')
  return math.max(tonumber(r[1] or 0), tonumber(r[2] or 0))
end

-- When the message that is next was pushed; without one, everything has left the queue. A copy says so itself, the
-- first message of a request has the time at which that was queued.
local function next_of(queue)
  if nexts[queue] == nil then
    local found = redis.call('LINDEX', queue, -1)
    local at = found and found:match('"pushed": *(%d+)')
    if found and not at then
      local id = found:match('"correlation_id": *"(%x+)"') or ''
      at = redis.call('HGET', prefix .. 'request:' .. id, 'queued') or 0 -- one that is unknown tells nothing
    end
    nexts[queue] = tonumber(at) or math.huge
  end
  return nexts[queue]
end

for _, id in ipairs(due) do
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'lane', 'group', 'bytes', 'inputs')
  if r[1] == 'queued' or r[1] == 'running' then
    -- One that was being sent when its worker died is sent by the synchronous lane.
    local batched = r[1] == 'queued' and r[2] == 'batch'
    local queue = batched and 'batch.' .. r[3] or 'sync'
    local lost = (batched and now or pushed(id)) < next_of(queue)
    local waits = r[1] == 'queued' and not batched and is_called_by_others(id, r[3])
    if lost and batched then
      -- Its group's counters may have been forgotten with the messages: they begin anew.
      local info = prefix .. 'group:' .. r[3]
      if not counted[queue] then
        counted[queue] = true
        redis.call('HDEL', info, 'queued_bytes', 'queued_inputs')
      end
      redis.call('HINCRBY', info, 'queued_bytes', r[4])
      redis.call('HINCRBY', info, 'queued_inputs', r[5])
    end
    if lost and not waits then
      redis.call('HSET', record, 'pushed', now)
      redis.call('LPUSH', queue, (ARGV[4]:gsub('ID', id):gsub('QUEUE', queue):gsub('NOW', now)))
      queued[#queued + 1] = id
    end
    if batched then
      redis.call('ZADD', prefix .. 'groups', 'NX', now, r[3])
    end
    redis.call('ZADD', prefix .. 'standing', now + again, id)
  else
    redis.call('ZREM', prefix .. 'standing', id)
  end
end
return queued
