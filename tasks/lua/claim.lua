#!lua flags=allow-oom
-- Closes one group if it is full or old enough: moves its oldest requests into a new batch.
-- It stays open while somebody has said "pause", and while the upstream's limits leave no room: see quota.lua
-- for what is in flight, and below for the pace of creation. Requests that have waited too long leave it in spite of everything, and only
-- they: their batch is ended without having been submitted.
--
-- ARGV: key prefix, group id, new batch id, limits (requests, bytes, inputs), hold (ms),
--       time within which the next step must begin (ms), age (ms) at which a request is not submitted any more,
--       most batches of a credential, within this time (ms), batches that may be under validation at once,
--       lower limits of single providers as JSON: name -> [requests, bytes].
-- Returns how many requests the batch has; 0: the group stays open, or is empty and forgotten; -1: it was written
-- by a newer version; -2: nobody knows any more where its requests should go.
local prefix, group, batch = ARGV[1], ARGV[2], ARGV[3]
local max_requests, max_bytes, max_inputs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local hold, too_old, most, period = tonumber(ARGV[7]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = redis.call('HGET', prefix .. 'batch:' .. batch, 'count')
if claimed then
  return tonumber(claimed) -- the answer to the first call was lost
end
local queue, index, info = 'batch.' .. group, prefix .. 'groups', prefix .. 'group:' .. group

local queued = redis.call('LLEN', queue)
if queued == 0 then
  redis.call('ZREM', index, group)
  redis.call('HDEL', info, 'queued_bytes', 'queued_inputs', 'not_before')
  return 0
end
local g = redis.call('HMGET', info, 'credential', 'endpoint', 'model', 'organization', 'project', 'max_wait',
  'queued_bytes', 'queued_inputs', 'not_before', 'provider', 'extra', 'format')
if tonumber(g[12] or 1) > FORMAT then
  return -1
end
if not g[2] then
  return -2
end
local own = cjson.decode(ARGV[13] or '{}')[g[10] or 'openai']
if own then
  max_requests, max_bytes = math.min(max_requests, own[1]), math.min(max_bytes, own[2])
end
local max_wait = tonumber(g[6] or 0) * 1000
local limit = max_wait > 0 and math.min(max_wait, too_old) or too_old
-- One batch holds what was accepted at about the same time, so that none is drawn into an older one's end.
local spread = math.max(limit / 10, 2 * hold, 10000)

local function id_of(message)
  return message and message:match('"correlation_id": *"(%x+)"') or ''
end
local function accepted_of(id)
  return tonumber(redis.call('HGET', prefix .. 'request:' .. id, 'accepted') or now)
end

-- Copies of messages that were dealt with say nothing about who waits.
local first
for _ = 1, 500 do
  first = id_of(redis.call('LINDEX', queue, -1))
  if queued == 0 or redis.call('HGET', prefix .. 'request:' .. first, 'state') == 'queued' then
    break
  end
  redis.call('RPOP', queue)
  queued = queued - 1
end
local late = now - accepted_of(first) >= limit
local quota = redis.sha1hex(table.concat({ g[1], g[4] or '', g[5] or '', g[3] }, '\0'))
local flight, creations = prefix .. 'flight:' .. quota, prefix .. 'creations:' .. g[1]
if not late then
  if redis.call('EXISTS', prefix .. 'paused') == 1 then
    return 0
  end
  if tonumber(g[9] or 0) > now then
    return 0
  end
  local opened = tonumber(redis.call('ZSCORE', index, group) or 0)
  local full = queued >= max_requests or tonumber(g[7] or 0) >= max_bytes or tonumber(g[8] or 0) >= max_inputs
  if not full and now - opened < hold then
    return 0
  end

  -- The pace: up to half of a credential's creations as they come, the others spread over what is left of the time.
  redis.call('ZREMRANGEBYSCORE', creations, '-inf', now - period)
  local used = redis.call('ZCARD', creations)
  if used >= most then
    return 0
  end
  if used >= most / 2 then
    local latest = redis.call('ZRANGE', creations, -1, -1, 'WITHSCORES')[2]
    if now - latest < period / (most - used) then
      return 0
    end
  end

  -- The room: what the upstream's queue is known to hold, less what is in it.
  local q = redis.call('HMGET', prefix .. 'quota:' .. quota, 'lines', 'bytes', 'admitted', 'not_before')
  if tonumber(q[4] or 0) > now then
    return 0
  end
  local lines, bytes, unknown = 0, 0, 0
  for _, entry in ipairs(redis.call('HVALS', flight)) do
    local n, b, admitted, since = entry:match('^(%d+) (%d+) (%d) (%d+)$')
    lines, bytes = lines + n, bytes + b
    if admitted == '0' and now - since < 600000 then
      unknown = unknown + 1
    end
  end
  if unknown >= math.max(tonumber(ARGV[12]), tonumber(q[3] or 0)) then
    return 0
  end
  if q[1] and lines > 0 then
    local room = math.floor(q[1] - lines)
    -- Not in crumbs: a full batch, all that waits, or half of what the upstream holds.
    if room < math.min(queued, max_requests, q[1] / 2) or q[2] - bytes < math.min(tonumber(g[7] or 0), max_bytes, q[2] / 2) then
      return 0
    end
    max_requests, max_bytes = math.min(max_requests, room), math.min(max_bytes, q[2] - bytes)
  elseif q[1] then
    max_requests, max_bytes = math.min(max_requests, math.max(1, math.floor(q[1]))), math.min(max_bytes, tonumber(q[2]))
  end
end

local members = prefix .. 'lines:' .. batch
local count, bytes, inputs, oldest, left = 0, 0, 0, now, nil
while count < max_requests and not left do
  local messages = redis.call('RPOP', queue, math.min(500, max_requests - count))
  if not messages then
    break
  end
  local ids, lines = {}, {}
  for i, message in ipairs(messages) do
    local id = id_of(message)
    local record = prefix .. 'request:' .. id
    local r = redis.call('HMGET', record, 'state', 'lane', 'bytes', 'inputs', 'queued', 'accepted')
    if r[1] == 'queued' and r[2] == 'batch' then -- anything else is a copy of a message that was dealt with
      local accepted = tonumber(r[6])
      local apart = count > 0 and math.abs(accepted - oldest) > spread
      if apart or (now - accepted >= limit) ~= late or (count > 0 and (bytes + r[3] > max_bytes or inputs + r[4] > max_inputs)) then
        for back = #messages, i, -1 do -- as they lay
          redis.call('RPUSH', queue, messages[back])
        end
        left = r[5]
        break
      end
      count, bytes, inputs, oldest = count + 1, bytes + r[3], inputs + r[4], math.min(oldest, accepted)
      redis.call('HSET', record, 'state', 'batched', 'owner', batch)
      ids[#ids + 1] = id
      lines[#lines + 1] = id .. ':' .. r[3]
    end
  end
  if #ids > 0 then
    redis.call('ZREM', prefix .. 'standing', unpack(ids))
    redis.call('RPUSH', members, unpack(lines))
  end
end

local rest = redis.call('LLEN', queue)
if rest == 0 then
  redis.call('ZREM', index, group)
  redis.call('HDEL', info, 'queued_bytes', 'queued_inputs', 'not_before')
else
  if not left then
    left = redis.call('HGET', prefix .. 'request:' .. id_of(redis.call('LINDEX', queue, -1)), 'queued')
  end
  redis.call('ZADD', index, left or now, group)
  redis.call('HINCRBY', info, 'queued_bytes', -bytes)
  redis.call('HINCRBY', info, 'queued_inputs', -inputs)
end
if count > 0 then
  redis.call('HSET', prefix .. 'batch:' .. batch, 'state', 'claimed', 'group', group, 'count', count, 'bytes', bytes,
    'claimed', now, 'oldest', oldest, 'quota', quota, 'credential', g[1], 'endpoint', g[2], 'model', g[3],
    'organization', g[4], 'project', g[5], 'max_wait', g[6] or 0)
  if g[10] and g[10] ~= 'openai' then
    redis.call('HSET', prefix .. 'batch:' .. batch, 'provider', g[10], 'extra', g[11] or '', 'format', FORMAT)
  end
  redis.call('ZADD', prefix .. 'batches', now + ARGV[8], batch)
  redis.call('HINCRBY', prefix .. 'stats', 'batches_total', 1)
  if not late then
    redis.call('HSET', flight, batch, count .. ' ' .. bytes .. ' 0 ' .. now)
    redis.call('EXPIRE', flight, 1209600)
    redis.call('ZADD', creations, now, batch)
    redis.call('PEXPIRE', creations, period)
  end
end
return count
