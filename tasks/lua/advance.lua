#!lua flags=allow-oom
-- Moves a batch to its next state, or notes something in its present one; only the holder of
-- the lease can.
--
-- ARGV: key prefix, batch id, lease token, expected state, new state, "keep" or "release" the lease,
--       pause (ms) before the next step, slack (ms) after which the sweep takes a released batch up,
--       outcome to count once ("successful", "failed" or ""), how it ended (a status, with the outcome),
--       lifetime once done (s), length (ms) for which a kept lease begins anew, id of this change,
--       then field, value, ...
-- Returns 1, or 0: the lease is lost.
local prefix, batch, expected, state, pause = ARGV[1], ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[7])
local key = prefix .. 'batch:' .. batch
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local r = redis.call('HMGET', key, 'state', 'lease', 'lease_until', 'claimed', 'change', 'quota', 'credential')
if r[5] == ARGV[13] then
  return 1 -- the answer to the first call was lost
end
if r[1] ~= expected or r[2] ~= ARGV[3] or tonumber(r[3] or 0) <= now then
  return 0
end
redis.call('HSET', key, 'state', state, 'change', ARGV[13], unpack(ARGV, 14))
if state ~= expected then
  redis.call('HSET', key, state, now)
end
if state == 'creating' and expected ~= 'creating' and redis.call('HINCRBY', key, 'creates', 1) > 1 then
  -- The claim counted the first one.
  redis.call('ZADD', prefix .. 'creations:' .. r[7], now, batch .. ':' .. ARGV[13])
  redis.call('PEXPIRE', prefix .. 'creations:' .. r[7], 3600000, 'NX') -- an hour, if the claim's has passed
end
if state == 'submitted' and expected ~= 'submitted' then
  -- Known for as long as an event about it may come.
  redis.call('SET', prefix .. 'upstream:' .. redis.call('HGET', key, 'upstream_id'), batch, 'EX', 1209600)
end
if state == 'ended' then
  redis.call('HDEL', prefix .. 'flight:' .. (r[6] or ''), batch)
end
if ARGV[9] ~= '' then
  local took = math.max(0, now - r[4])
  redis.call('HINCRBY', prefix .. 'stats', 'batches_' .. ARGV[9], 1)
  redis.call('HINCRBY', prefix .. 'stats', 'batches_ended_' .. ARGV[10], 1)
  redis.call('HINCRBY', prefix .. 'stats', 'batches_ms', took)
  redis.call('HINCRBY', prefix .. 'latency:batches', math.floor(math.log(took + 1) / math.log(1.03)), 1)
end
if state == 'done' then
  redis.call('HDEL', key, 'lease', 'lease_until', 'not_before')
  redis.call('ZREM', prefix .. 'batches', batch)
  redis.call('DEL', prefix .. 'lines:' .. batch)
  redis.call('EXPIRE', key, ARGV[11])
elseif ARGV[6] == 'release' then
  -- A fifth of the pause is forgiven: a message that comes a little early must not be turned away.
  redis.call('HDEL', key, 'lease', 'lease_until')
  redis.call('HSET', key, 'not_before', now + math.floor(pause * 0.8))
  redis.call('ZADD', prefix .. 'batches', now + pause + ARGV[8], batch)
else
  -- The call that follows is shorter than a whole lease, whatever becomes of the renewal.
  redis.call('HSET', key, 'lease_until', now + ARGV[12])
  redis.call('ZADD', prefix .. 'batches', now + ARGV[12], batch)
end
return 1
