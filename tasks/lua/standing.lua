#!lua flags=allow-oom
-- Queues requests again that are in no queue although they should be: a worker took their message
-- and died. One that waits in a queue which is not empty is not lost, the queue is only busy; one that
-- was being sent is known to be lost when its lease is over. A message too many does no harm.
--
-- ARGV: key prefix, time (ms) until a request is looked at again, most,
--       message of tasks.request with ID and QUEUE in place of its id and queue.
-- Returns the ids that were queued again.
local prefix, again = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local queued, busy = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'standing', '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local r = redis.call('HMGET', prefix .. 'request:' .. id, 'state', 'lane', 'group')
  if r[1] == 'queued' or r[1] == 'running' then
    -- One that was being sent when its worker died is sent by the synchronous lane.
    local batched = r[1] == 'queued' and r[2] == 'batch'
    local queue = batched and 'batch.' .. r[3] or 'sync'
    if busy[queue] == nil then
      busy[queue] = redis.call('LLEN', queue) > 0
    end
    if r[1] == 'running' or not busy[queue] then
      redis.call('LPUSH', queue, (ARGV[4]:gsub('ID', id):gsub('QUEUE', queue)))
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
