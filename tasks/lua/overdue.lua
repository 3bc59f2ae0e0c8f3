#!lua flags=allow-oom
-- Hands out the batches on which somebody should have begun to work by now, each once a while.
--
-- ARGV: key prefix, time (ms) until one that is handed out now may be handed out again, most.
-- Returns batch id, state, ...
local prefix = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for _, batch in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'batches', '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local state = redis.call('HGET', prefix .. 'batch:' .. batch, 'state')
  if state then
    redis.call('ZADD', prefix .. 'batches', now + ARGV[2], batch)
    found[#found + 1] = batch
    found[#found + 1] = state
  else
    redis.call('ZREM', prefix .. 'batches', batch)
  end
end
return found
