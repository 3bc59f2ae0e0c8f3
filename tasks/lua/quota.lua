#!lua flags=allow-oom
-- Learns how much the upstream's queue takes of one credential and model: more by little steps while it
-- admits batches, half when it refuses one. `flight:<quota>` says what is in it: batch -> "lines bytes admitted since".
--
-- ARGV: key prefix, batch id, "admitted" or "refused", longest pause (ms) after a refusal, lifetime of what was learnt (s).
-- Returns 1, or 0: it was counted before.
local prefix, batch = ARGV[1], ARGV[2]
local record = prefix .. 'batch:' .. batch
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local b = redis.call('HMGET', record, 'quota', 'count', 'bytes', 'claimed')
if not b[1] or redis.call('HSETNX', record, 'quota_' .. ARGV[3], 1) == 0 then
  return 0
end
local key, flight = prefix .. 'quota:' .. b[1], prefix .. 'flight:' .. b[1]
if ARGV[3] == 'admitted' and redis.call('HEXISTS', flight, batch) == 1 then
  redis.call('HSET', flight, batch, b[2] .. ' ' .. b[3] .. ' 1 ' .. b[4])
end
local lines, bytes = 0, 0 -- what is known to fit
for _, entry in ipairs(redis.call('HVALS', flight)) do
  local n, size, admitted = entry:match('^(%d+) (%d+) (%d)')
  if admitted == '1' then
    lines, bytes = lines + n, bytes + size
  end
end
local q = redis.call('HMGET', key, 'lines', 'bytes', 'cut', 'refusals')
if ARGV[3] == 'admitted' then
  redis.call('HINCRBY', key, 'admitted', 1)
  redis.call('HSET', key, 'refusals', 0)
  if q[1] then
    redis.call('HSET', key, 'lines', math.max(q[1] * 1.01, lines), 'bytes', math.floor(math.max(q[2] * 1.01, bytes)))
  end
else
  redis.call('HINCRBY', prefix .. 'stats', 'batches_over_quota', 1)
  redis.call('HSET', key, 'admitted', 0)
  if q[1] and tonumber(b[4]) < tonumber(q[3]) then
    -- It was on its way before the last cut.
    redis.call('HSET', key, 'lines', math.max(q[1], lines), 'bytes', math.max(q[2], bytes))
  else
    local refusals = tonumber(q[4] or 0)
    redis.call('HSET', key, 'lines', math.max(1, lines, (lines + b[2]) / 2), 'bytes',
      math.floor(math.max(1, bytes, (bytes + b[3]) / 2)), 'cut', now, 'refusals', refusals + 1,
      'not_before', now + math.min(1000 * 2 ^ math.min(refusals, 20), tonumber(ARGV[4])))
  end
end
redis.call('EXPIRE', key, ARGV[5])
return 1
