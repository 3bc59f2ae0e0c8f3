#!lua flags=allow-oom
-- ARGV: key prefix, group id, the upstream's refusal, time (ms) for which it is remembered.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', ARGV[1] .. 'group:' .. ARGV[2], 'unbatchable_until', now + ARGV[4], 'unbatchable', ARGV[3])
return 1
