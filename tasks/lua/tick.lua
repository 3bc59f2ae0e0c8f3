#!lua flags=allow-oom
-- ARGV: key prefix, name of a clock's task that runs now.
local time = redis.call('TIME')
return redis.call('HSET', ARGV[1] .. 'ticks', ARGV[2], time[1] * 1000 + math.floor(time[2] / 1000))
