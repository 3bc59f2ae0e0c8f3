#!lua flags=allow-oom
-- Writes final replies: the only way in which a request ends.
-- Compare-and-set per request: whoever does not own it any more changes nothing.
--
-- ARGV: key prefix, Celery's result key prefix, lifetime of a reply (s),
--       then per request: id, owner, reply in Celery's result format, outcome, lane that was paid for or "".
-- Returns per request: 1 settled now, 0 not ours or settled before.
local prefix, result_prefix, lifetime = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies, entry, counts, latencies, sum, labels = {}, {}, {}, {}, 0, {}
local function count(name)
  counts[name] = (counts[name] or 0) + 1
end

for at = 4, #ARGV, 5 do
  local id, payload, lane = ARGV[at], ARGV[at + 2], ARGV[at + 4]
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'owner', 'accepted', 'idempotency', 'label')
  if r[1] and r[1] ~= 'settled' and r[2] == ARGV[at + 1] and r[2] ~= '' then
    redis.call('SET', result_prefix .. id, payload, 'EX', lifetime)
    redis.call('PUBLISH', result_prefix .. id, payload) -- for whoever waits by Celery's own AsyncResult
    redis.call('DEL', prefix .. 'body:' .. id)
    redis.call('HSET', record, 'state', 'settled', 'settled', now)
    redis.call('EXPIRE', record, lifetime)
    if r[4] then
      redis.call('EXPIRE', prefix .. 'idempotency:' .. r[4], lifetime)
    end
    redis.call('ZREM', prefix .. 'standing', id)
    local took = math.max(0, now - r[3])
    local bucket = math.floor(math.log(took + 1) / math.log(1.03))
    sum = sum + took
    latencies[bucket] = (latencies[bucket] or 0) + 1
    count('requests_' .. ARGV[at + 3])
    if lane ~= '' then
      count('lane_' .. lane)
    end
    if r[5] then
      labels[r[5]] = (labels[r[5]] or 0) + 1
    end
    entry[#entry + 1] = id .. ':' .. #payload
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
  end
end

if #entry > 0 then
  redis.call('XADD', prefix .. 'settled', 'MAXLEN', '~', 2000, '*', 'ids', table.concat(entry, ' '))
  for name, n in pairs(counts) do
    redis.call('HINCRBY', prefix .. 'stats', name, n)
  end
  if redis.call('DECRBY', prefix .. 'unsettled', #entry) <= 0 then
    redis.call('DEL', prefix .. 'unsettled')
  end
  for label, n in pairs(labels) do
    if redis.call('HINCRBY', prefix .. 'label:' .. label, 'waiting', -n) <= 0 then
      redis.call('HDEL', prefix .. 'label:' .. label, 'waiting')
    end
  end
  redis.call('HINCRBY', prefix .. 'stats', 'requests_ms', sum)
  for bucket, n in pairs(latencies) do
    redis.call('HINCRBY', prefix .. 'latency:requests', bucket, n)
  end
end
return replies
