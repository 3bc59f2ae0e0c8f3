#!lua flags=allow-oom
-- Writes final replies: the only way in which a request ends, and therefore the place where it is counted, once.
-- Compare-and-set per request: whoever does not own it any more changes nothing.
--
-- ARGV: key prefix, Celery's result key prefix, lifetime of a reply (s), the host of OpenAI's upstream (what other
--       providers answered is counted under their names),
--       then per request: id, owner ("queue": whoever it is, as long as it is queued), reply in Celery's result
--       format, its kind ("outcome,status,lane,tier"; the lane that was paid for and the tier by which that is
--       priced may be empty), reason of a failure or "", tokens ("input cached output reasoning model"; the model
--       may be empty, and counts where the group has none) or "".
-- Returns per request: 1 settled now, 0 not ours or settled before.
local prefix, result_prefix, lifetime, host = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies, entry, kinds, latencies, minute, usage, failures, labels, labelled, sum = {}, {}, {}, {}, {}, {}, {}, {}, {}, 0
local ids, bodies, channels, payloads = {}, {}, {}, {}
local fine, coarse = 1 / math.log(1.03), 1 / math.log(1.2)
local groups = {}
local function group_of(id)
  if not groups[id] then
    groups[id] = redis.call('HMGET', prefix .. 'group:' .. id, 'model', 'endpoint', 'credential', 'provider')
  end
  return groups[id]
end

for at = 5, #ARGV, 6 do
  local id, payload, kind, reason, tokens = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'owner', 'accepted', 'idempotency', 'group', 'label')
  local owner = ARGV[at + 1]
  local ours = r[2] == owner and owner ~= '' or owner == 'queue' and r[1] == 'queued'
  if r[1] and r[1] ~= 'settled' and ours then
    redis.call('SET', result_prefix .. id, payload, 'EX', lifetime)
    channels[#channels + 1] = result_prefix .. id
    payloads[result_prefix .. id] = payload
    ids[#ids + 1] = id
    bodies[#bodies + 1] = prefix .. 'body:' .. id
    redis.call('HSET', record, 'state', 'settled', 'settled', now, 'kind', kind)
    redis.call('EXPIRE', record, lifetime)
    if r[4] then
      redis.call('EXPIRE', prefix .. 'idempotency:' .. r[4], lifetime)
    end
    if r[1] == 'queued' then
      local q = redis.call('HMGET', record, 'lane', 'bytes', 'inputs')
      if q[1] ~= 'batch' then -- nobody is to be called who has been answered
        redis.call('ZREM', prefix .. 'waiting:' .. (group_of(r[5])[3] or ''), id)
      elseif group_of(r[5])[2] then -- its message is dropped when it is met
        redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_bytes', -q[2])
        redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_inputs', -q[3])
      end
    end
    local took = math.max(0, now - r[3])
    local log = math.log(took + 1)
    local bucket = math.floor(log * fine)
    latencies[bucket] = (latencies[bucket] or 0) + 1
    bucket = math.floor(log * coarse)
    minute[bucket] = (minute[bucket] or 0) + 1
    sum = sum + took
    kinds[kind] = (kinds[kind] or 0) + 1
    if tokens ~= '' then
      local group = usage[r[5]] or {}
      local a, b, c, d, model = tokens:match('^(%d+) (%d+) (%d+) (%d+) ?(.*)$')
      local key = kind .. '\t' .. model
      local row = group[key] or { 0, 0, 0, 0, 0 }
      row[1], row[2], row[3], row[4], row[5] = row[1] + 1, row[2] + a, row[3] + b, row[4] + c, row[5] + d
      group[key], usage[r[5]] = row, group
    end
    if reason ~= '' then
      local key = table.concat({ kind, reason, r[5], ARGV[at + 1] }, '\t')
      failures[key] = failures[key] or { n = 0, kind = kind, reason = reason, group = r[5], id = id }
      failures[key].n = failures[key].n + 1
    end
    if r[6] then
      labels[r[6]], labelled[r[5]] = (labels[r[6]] or 0) + 1, true
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
  for kind, n in pairs(kinds) do
    local outcome, status, lane = kind:match('^(%w*),(%d*),(%w*),')
    redis.call('HINCRBY', prefix .. 'stats', 'requests_' .. outcome, n)
    redis.call('HINCRBY', prefix .. 'stats', 'status_' .. status:sub(1, 1) .. 'xx', n)
    if lane ~= '' then
      redis.call('HINCRBY', prefix .. 'stats', 'lane_' .. lane, n)
    end
    minute[outcome] = (minute[outcome] or 0) + n
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

  -- The last hours, minute by minute; a bucket of its histogram is 20 % wide.
  local hour = prefix .. 'minutes:' .. math.floor(now / 3600000)
  for name, n in pairs(minute) do
    redis.call('HINCRBY', hour, math.floor(now / 60000) % 60 .. ' ' .. name, n)
  end
  redis.call('EXPIRE', hour, 90000)

  -- Tokens of the day, in rows of five fields. Callers make up model names, so a day has 500; the rest is added up in
  -- "other", but for access tokens: what each has spent is bounded.
  local day = prefix .. 'usage:' .. math.floor(now / 86400000)
  for id, group in pairs(usage) do
    local g = group_of(id)
    local endpoint, credential = g[2] or 'other', (g[3] or 'other'):sub(1, 8)
    local at = (g[4] or 'openai') == 'openai' and host or g[4]
    for key, sums in pairs(group) do
      local tier, model = key:match('(%w*)\t(.*)$')
      model = g[1] ~= '' and (g[1] or 'other'):sub(1, 100) or model
      local row = table.concat({ at, endpoint, tier, credential, model }, '\t')
      if not labelled[id] and redis.call('HEXISTS', day, 'requests\t' .. row) == 0 and redis.call('HLEN', day) >= 2500 then
        row = table.concat({ at, endpoint, tier, 'other', 'other' }, '\t')
      end
      for i, name in ipairs({ 'requests', 'input', 'cached', 'output', 'reasoning' }) do
        if sums[i] > 0 then
          redis.call('HINCRBY', day, name .. '\t' .. row, sums[i])
        end
      end
    end
    redis.call('EXPIRE', day, 2764800)
  end

  for _, f in pairs(failures) do
    local g = group_of(f.group)
    local model = (g[1] ~= '' and g[1] or g[4] or ''):gsub('[%c]', ' '):sub(1, 100)
    local status, lane = f.kind:match('^%w*,(%d*),(%w*),')
    redis.call('LPUSH', prefix .. 'failures', table.concat({ now, f.n, status, f.reason, lane, f.id, model }, '\t'))
  end
  if next(failures) then
    redis.call('LTRIM', prefix .. 'failures', 0, 49)
  end
end
return replies
