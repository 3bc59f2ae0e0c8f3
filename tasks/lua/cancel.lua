#!lua flags=allow-oom
-- Marks a batch as canceled, and lets the sweep take it up at once, however long its next pause is.
--
-- ARGV: key prefix, batch id, then the states in which that still changes something.
-- Returns 1, or 0: it is elsewhere.
local key = ARGV[1] .. 'batch:' .. ARGV[2]
local state = redis.call('HGET', key, 'state')
for i = 3, #ARGV do
  if ARGV[i] == state then
    redis.call('HSET', key, 'canceled', 1)
    redis.call('HDEL', key, 'not_before')
    local time = redis.call('TIME')
    redis.call('ZADD', ARGV[1] .. 'batches', 'LT', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2])
    return 1
  end
end
return 0
