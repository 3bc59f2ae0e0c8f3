#!lua flags=allow-oom
-- Notes which clients a front holds no more: answered, or gone. What was answered is given to nobody
-- else; what nobody waits for any more is there for the next equal request.
--
-- ARGV: key prefix, the front's number, time (s) for which a delivered success may be asked for by a retry,
--       time (s) for which its reply is kept, then per client: request id, digest, how:
--         "success"  a 2xx was delivered         "error"    another answer was, with its status
--         "lost"     a 2xx was, and not read
--         "gone"     the client went away        "key"      a retryable error was delivered to an Idempotency-Key
local prefix, number, keep, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local now = tonumber(redis.call('TIME')[1])

-- include equal

local function delivered(index, id)
  local score, alone = score_of(index, id)
  if score and alone then
    put(index, id, -now, true, keep)
  elseif score then
    redis.call('ZADD', index, -now, id)
    redis.call('ZREMRANGEBYSCORE', index, -(now - keep), '(0')
    if redis.call('ZCOUNT', index, 0, '+inf') == 0 then
      redis.call('EXPIRE', index, keep)
    end
  end
end

for at = 5, #ARGV, 3 do
  local id, how = ARGV[at], ARGV[at + 2]
  local index = prefix .. 'equal:' .. ARGV[at + 1]
  if how == 'key' then
    local key = prefix .. 'idempotency:' .. ARGV[at + 1]
    if (redis.call('GET', key) or ''):sub(1, #id) == id then
      redis.call('DEL', key)
    end
  elseif how == 'success' then
    delivered(index, id)
  else
    local score, alone = score_of(index, id)
    if score and how == 'error' then
      if alone then
        redis.call('DEL', index)
      else
        redis.call('ZREM', index, id)
      end
    elseif score and how == 'lost' then
      if score < 0 then -- or else a retry has it already
        put(index, id, -score / 4294967296, alone, kept)
      end
    elseif score and math.floor(score) == number then
      put(index, id, score % 1, alone)
    end
  end
end
return #ARGV
