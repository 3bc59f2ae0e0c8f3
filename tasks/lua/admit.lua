#!lua flags=allow-oom
-- Gives the place of a synchronous call that has ended to those of its credential that wait for one.
--
-- ARGV: key prefix, credential ref, request id whose call has ended, most calls of a credential,
--       time (ms) for which a place is kept, message of tasks.request with ID, QUEUE and NOW in place of its id, queue and the time,
--       time (ms) for which nobody of this credential shall be called.
-- Returns how many were called.
local prefix, credential = ARGV[1], ARGV[2]
local calls, waiting = prefix .. 'calls:' .. credential, prefix .. 'waiting:' .. credential
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', calls, ARGV[3])
if ARGV[7] ~= '0' then
  redis.call('SET', prefix .. 'pause:' .. credential, 1, 'PX', ARGV[7])
end
redis.call('ZREMRANGEBYSCORE', calls, '-inf', now)
local free = ARGV[4] - redis.call('ZCARD', calls)
if free <= 0 or redis.call('EXISTS', prefix .. 'pause:' .. credential) == 1 then
  return 0
end
local called = redis.call('ZPOPMIN', waiting, free)
for at = 1, #called, 2 do
  redis.call('ZADD', calls, now + ARGV[5], called[at])
  if redis.call('EXISTS', prefix .. 'request:' .. called[at]) == 1 then
    redis.call('HSET', prefix .. 'request:' .. called[at], 'pushed', now)
  end
  redis.call('LPUSH', 'sync', (ARGV[6]:gsub('ID', called[at]):gsub('QUEUE', 'sync'):gsub('NOW', now)))
end
return #called / 2
