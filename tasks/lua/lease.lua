#!lua flags=allow-oom
-- Takes the lease of a batch, so that one worker at a time works on it, or renews it.
--
-- ARGV: key prefix, batch id, token, length (ms), 1 to take it although its pause is not over,
--       then the states in which it may be taken.
-- Returns the record as a flat list; {state} if it is in another state; {"newer"} if a newer version wrote it; {} if
-- somebody else holds the lease or its pause is not over.
local key = ARGV[1] .. 'batch:' .. ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local r = redis.call('HMGET', key, 'state', 'lease', 'lease_until', 'not_before', 'format')
if tonumber(r[5] or 1) > FORMAT then
  return { 'newer' }
end
local held = tonumber(r[3] or 0) > now
if not (held and r[2] == ARGV[3]) then
  local allowed = false
  for i = 6, #ARGV do
    allowed = allowed or ARGV[i] == r[1]
  end
  if not allowed then
    return { r[1] or 'gone' }
  end
  if held or ARGV[5] == '0' and tonumber(r[4] or 0) > now then
    return {}
  end
end
redis.call('HSET', key, 'lease', ARGV[3], 'lease_until', now + ARGV[4])
redis.call('ZADD', ARGV[1] .. 'batches', now + ARGV[4], ARGV[2])
return redis.call('HGETALL', key)
