#!lua flags=allow-oom
-- Says that a front is there, so that its waiters count as living; see the zset `equal` in accept.lua.
--
-- ARGV: key prefix, the front's number or 0 for a new one, time (ms) after which it counts as dead without a sign.
-- Returns its number, or 0: it counted as dead, and others may have taken what its clients wait for.
local prefix, number = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', prefix .. 'fronts', '-inf', now)
if number == 0 then
  number = redis.call('INCR', prefix .. 'front')
elseif not redis.call('ZSCORE', prefix .. 'fronts', number) then
  return 0
end
redis.call('ZADD', prefix .. 'fronts', now + ARGV[3], number)
-- Longer than any index of equal requests lives: a number is never given twice in that time.
redis.call('EXPIRE', prefix .. 'fronts', 2592000)
redis.call('EXPIRE', prefix .. 'front', 2592000)
return number
