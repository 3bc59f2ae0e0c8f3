#!lua flags=allow-oom
-- Puts requests back into their queue: the upstream provably did not run them, or will be asked again.
--
-- ARGV: key prefix, owner, counter to raise ("attempts", "missing", "late" or ""), lane to change to or "",
--       delay (ms) before the group closes again, patience (ms) as in accept.lua, then per request:
--       id, message ("": the caller sends it with a countdown).
-- Returns per request: 1 queued again, 0 not ours any more.
local prefix, owner, counter, lane, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies, requeued = {}, 0

for at = 7, #ARGV, 2 do
  local id = ARGV[at]
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'owner', 'group', 'bytes', 'inputs', 'lane')
  if r[1] and r[1] ~= 'settled' and r[2] == owner and owner ~= '' then
    redis.call('HSET', record, 'state', 'queued', 'owner', '', 'queued', now)
    if counter ~= '' then
      redis.call('HINCRBY', record, counter, 1)
    end
    if lane ~= '' then
      redis.call('HSET', record, 'lane', lane, 'attempts', 0)
      redis.call('HINCRBY', prefix .. 'stats', 'fallbacks_' .. lane, 1)
      r[6] = lane
    end
    local queue = r[6] == 'batch' and 'batch.' .. r[3] or 'sync'
    if ARGV[at + 1] ~= '' then
      -- In a group's queue before all others: it is the oldest, and claim.lua looks at the first one's age.
      redis.call(queue == 'sync' and 'LPUSH' or 'RPUSH', queue, ARGV[at + 1])
    end
    redis.call('ZADD', prefix .. 'standing', now + delay + ARGV[6], id)
    if queue ~= 'sync' then
      local info = prefix .. 'group:' .. r[3]
      redis.call('ZADD', prefix .. 'groups', 'NX', now, r[3])
      redis.call('HINCRBY', info, 'queued_bytes', r[4])
      redis.call('HINCRBY', info, 'queued_inputs', r[5])
      if delay > 0 then
        redis.call('HSET', info, 'not_before', now + delay)
      end
    end
    requeued = requeued + 1
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
  end
end
if requeued > 0 then
  redis.call('HINCRBY', prefix .. 'stats', 'requests_requeued', requeued)
end
return replies
