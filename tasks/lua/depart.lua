#!lua flags=allow-oom
-- Notes which clients a front holds no more: answered, or gone. What was answered is given to nobody
-- else; what nobody waits for any more is there for the next equal request.
--
-- ARGV: key prefix, the front's number, time (s) for which a delivered success may be asked for by a retry,
--       then per client: request id, digest, how:
--         "success"  a 2xx was delivered         "error"    another answer was, with its status
--         "lost"     a 2xx was, and not read
--         "gone"     the client went away        "key"      a retryable error was delivered to an Idempotency-Key
local prefix, number, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])

for at = 4, #ARGV, 3 do
  local id, how = ARGV[at], ARGV[at + 2]
  local index = prefix .. 'equal:' .. ARGV[at + 1]
  if how == 'key' then
    local key = prefix .. 'idempotency:' .. ARGV[at + 1]
    if (redis.call('GET', key) or ''):sub(1, #id) == id then
      redis.call('DEL', key)
    end
  elseif how == 'error' then
    redis.call('ZREM', index, id)
  elseif how == 'success' then
    redis.call('ZADD', index, 'XX', -now, id)
    redis.call('ZREMRANGEBYSCORE', index, -(now - keep), '(0')
    if redis.call('ZCOUNT', index, 0, '+inf') == 0 then
      redis.call('EXPIRE', index, keep)
    end
  elseif how == 'lost' then
    -- Unless a retry has it already.
    local score = tonumber(redis.call('ZSCORE', index, id) or 0)
    if score < 0 then
      redis.call('ZADD', index, -score / 4294967296, id)
    end
  else
    local score = tonumber(redis.call('ZSCORE', index, id) or -1)
    if math.floor(score) == number then
      redis.call('ZADD', index, score % 1, id)
    end
  end
end
return #ARGV
