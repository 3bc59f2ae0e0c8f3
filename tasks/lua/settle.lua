#!lua flags=allow-oom
-- Writes final replies: the only way in which a request ends, and therefore the place where it is counted, once.
-- Compare-and-set per request: whoever does not own it any more changes nothing.
--
-- ARGV: key prefix, Celery's result key prefix, lifetime of a reply (s), the upstream's host,
--       then per request: id, owner, reply in Celery's result format, outcome, lane that was paid for or "",
--       status, tier by which it is priced, reason of a failure or "", "input cached output reasoning" tokens or "".
-- Returns per request: 1 settled now, 0 not ours or settled before.
local prefix, result_prefix, lifetime, host = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies, entry, counts, latencies, minute, usage, failures, sum = {}, {}, {}, {}, {}, {}, {}, 0
local groups = {}
local function count(name)
  counts[name] = (counts[name] or 0) + 1
end
local function group_of(id)
  if not groups[id] then
    groups[id] = redis.call('HMGET', prefix .. 'group:' .. id, 'model', 'endpoint', 'credential')
  end
  return groups[id]
end

for at = 5, #ARGV, 9 do
  local id, payload, lane, status, reason = ARGV[at], ARGV[at + 2], ARGV[at + 4], ARGV[at + 5], ARGV[at + 7]
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'owner', 'accepted', 'idempotency', 'group', 'lane', 'bytes', 'inputs')
  if r[1] and r[1] ~= 'settled' and r[2] == ARGV[at + 1] then
    redis.call('SET', result_prefix .. id, payload, 'EX', lifetime)
    redis.call('PUBLISH', result_prefix .. id, payload) -- for whoever waits by Celery's own AsyncResult
    redis.call('DEL', prefix .. 'body:' .. id)
    redis.call('HSET', record, 'state', 'settled', 'settled', now, 'status', status)
    redis.call('EXPIRE', record, lifetime)
    if r[4] then
      redis.call('EXPIRE', prefix .. 'idempotency:' .. r[4], lifetime)
    end
    redis.call('ZREM', prefix .. 'standing', id)
    if r[1] == 'queued' and r[6] == 'batch' then -- its message is dropped when it is met
      redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_bytes', -r[7])
      redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_inputs', -r[8])
    end
    local took = math.max(0, now - r[3])
    local bucket = math.floor(math.log(took + 1) / math.log(1.03))
    sum = sum + took
    latencies[bucket] = (latencies[bucket] or 0) + 1
    count('requests_' .. ARGV[at + 3])
    count('status_' .. status:sub(1, 1) .. 'xx')
    if lane ~= '' then
      count('lane_' .. lane)
    end
    bucket = math.floor(math.log(took + 1) / math.log(1.2))
    minute[bucket] = (minute[bucket] or 0) + 1
    minute[ARGV[at + 3]] = (minute[ARGV[at + 3]] or 0) + 1
    if ARGV[at + 8] ~= '' then
      local key = r[5] .. '\0' .. ARGV[at + 6]
      local tokens = usage[key] or { r[5], ARGV[at + 6], 0, 0, 0, 0, 0 }
      local a, b, c, d = ARGV[at + 8]:match('^(%d+) (%d+) (%d+) (%d+)$')
      tokens[3], tokens[4], tokens[5] = tokens[3] + 1, tokens[4] + a, tokens[5] + b
      tokens[6], tokens[7] = tokens[6] + c, tokens[7] + d
      usage[key] = tokens
    end
    if reason ~= '' then
      local key = table.concat({ status, reason, r[5], lane, ARGV[at + 1] }, '\t')
      failures[key] = failures[key] or { n = 0, status = status, reason = reason, group = r[5], lane = lane, id = id }
      failures[key].n = failures[key].n + 1
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
  redis.call('HINCRBY', prefix .. 'stats', 'requests_ms', sum)
  for bucket, n in pairs(latencies) do
    redis.call('HINCRBY', prefix .. 'latency:requests', bucket, n)
  end

  -- The last hours, minute by minute; a bucket of its histogram is 20 % wide.
  local hour = prefix .. 'minutes:' .. math.floor(now / 3600000)
  for name, n in pairs(minute) do
    redis.call('HINCRBY', hour, math.floor(now / 60000) % 60 .. ' ' .. name, n)
  end
  redis.call('EXPIRE', hour, 90000)

  -- Tokens of the day. Callers make up model names, so a day has so many rows; the rest is added up in "other".
  local day = prefix .. 'usage:' .. math.floor(now / 86400000)
  for _, tokens in pairs(usage) do
    local g = group_of(tokens[1])
    local model, endpoint, credential = (g[1] or 'other'):sub(1, 100), g[2] or 'other', (g[3] or 'other'):sub(1, 8)
    local row = table.concat({ host, endpoint, tokens[2], credential, model }, '\t')
    if redis.call('HEXISTS', day, 'requests\t' .. row) == 0 and redis.call('HLEN', day) >= 2500 then
      row = table.concat({ host, endpoint, tokens[2], 'other', 'other' }, '\t')
    end
    for i, name in ipairs({ 'requests', 'input', 'cached', 'output', 'reasoning' }) do
      if tokens[i + 2] > 0 then
        redis.call('HINCRBY', day, name .. '\t' .. row, tokens[i + 2])
      end
    end
    redis.call('EXPIRE', day, 2764800)
  end

  for _, f in pairs(failures) do
    local model = (group_of(f.group)[1] or ''):gsub('[%c]', ' '):sub(1, 100)
    redis.call('LPUSH', prefix .. 'failures', table.concat({ now, f.n, f.status, f.reason, f.lane, f.id, model }, '\t'))
  end
  if next(failures) then
    redis.call('LTRIM', prefix .. 'failures', 0, 49)
  end
end
return replies
