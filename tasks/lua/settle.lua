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
local replies, entry, counts, latencies, sum = {}, {}, {}, {}, 0
local ids, bodies, channels, payloads = {}, {}, {}, {}
local function count(name)
  counts[name] = (counts[name] or 0) + 1
end

for at = 4, #ARGV, 5 do
  local id, payload, lane = ARGV[at], ARGV[at + 2], ARGV[at + 4]
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'owner', 'accepted', 'idempotency')
  if r[1] and r[1] ~= 'settled' and r[2] == ARGV[at + 1] and r[2] ~= '' then
    redis.call('SET', result_prefix .. id, payload, 'EX', lifetime)
    channels[#channels + 1] = result_prefix .. id
    payloads[result_prefix .. id] = payload
    ids[#ids + 1] = id
    bodies[#bodies + 1] = prefix .. 'body:' .. id
    redis.call('HSET', record, 'state', 'settled', 'settled', now)
    redis.call('EXPIRE', record, lifetime)
    if r[4] then
      redis.call('EXPIRE', prefix .. 'idempotency:' .. r[4], lifetime)
    end
    local took = math.max(0, now - r[3])
    local bucket = math.floor(math.log(took + 1) / math.log(1.03))
    sum = sum + took
    latencies[bucket] = (latencies[bucket] or 0) + 1
    count('requests_' .. ARGV[at + 3])
    if lane ~= '' then
      count('lane_' .. lane)
    end
    entry[#entry + 1] = id .. ':' .. #payload
    replies[#replies + 1] = 1
  else
    replies[#replies + 1] = 0
  end
end

if #entry > 0 then
  redis.call('DEL', unpack(bodies))
  redis.call('ZREM', prefix .. 'standing', unpack(ids))
  -- For whoever waits by Celery's own AsyncResult; hardly ever anybody does.
  local subscribers = redis.call('PUBSUB', 'NUMSUB', unpack(channels))
  for i = 1, #subscribers, 2 do
    if subscribers[i + 1] > 0 then
      redis.call('PUBLISH', subscribers[i], payloads[subscribers[i]])
    end
  end
  redis.call('XADD', prefix .. 'settled', 'MAXLEN', '~', 2000, '*', 'ids', table.concat(entry, ' '))
  for name, n in pairs(counts) do
    redis.call('HINCRBY', prefix .. 'stats', name, n)
  end
  redis.call('HINCRBY', prefix .. 'stats', 'requests_ms', sum)
  for bucket, n in pairs(latencies) do
    redis.call('HINCRBY', prefix .. 'latency:requests', bucket, n)
  end
end
return replies
