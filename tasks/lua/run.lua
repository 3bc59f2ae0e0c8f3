#!lua flags=allow-oom
-- Takes one request to be sent synchronously, renews the lease on it, or notes that it is sent now. A credential has so
-- many calls at the same time and no more; one that finds no place waits in `waiting:<credential>` until admit.lua calls it.
--
-- ARGV: key prefix, request id, token, length of the lease (ms), "take", "renew" or "send", most calls of a credential.
-- Returns {tries so far, lane, when accepted, credential ref, endpoint, model, organization, project, provider, extra},
-- or {}: it is settled, in a batch, waiting for a place, or somebody else is sending it; or {"newer"}: its group was
-- written by a newer version.
local prefix, id, token = ARGV[1], ARGV[2], ARGV[3]
local record = prefix .. 'request:' .. id
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local r = redis.call('HMGET', record, 'state', 'owner', 'group', 'lease_until', 'attempts', 'lane', 'accepted', 'queued',
  'bytes', 'inputs')
if ARGV[5] ~= 'take' and not (r[1] == 'running' and r[2] == token) then
  return {} -- given back meanwhile: a late renewal must not take it again
end
if r[1] == 'running' and r[2] ~= token and tonumber(r[4]) > now or r[1] ~= 'queued' and r[1] ~= 'running' then
  return {}
end
local g = redis.call('HMGET', prefix .. 'group:' .. r[3], 'credential', 'endpoint', 'model', 'organization', 'project',
  'provider', 'extra', 'format')
if ARGV[5] == 'take' and tonumber(g[8] or 1) > FORMAT then
  return { 'newer' }
end
local credential = g[1] or ''
local calls = prefix .. 'calls:' .. credential
if not (r[1] == 'running' and r[2] == token) then
  redis.call('ZREMRANGEBYSCORE', calls, '-inf', now)
  local paused = redis.call('EXISTS', prefix .. 'pause:' .. credential) == 1
  if paused or not redis.call('ZSCORE', calls, id) and redis.call('ZCARD', calls) >= tonumber(ARGV[6]) then
    redis.call('ZREM', calls, id)
    redis.call('ZADD', prefix .. 'waiting:' .. credential, 'NX', r[8] or now, id)
    return {}
  end
end
if r[1] == 'running' and r[2] ~= token then
  -- Its worker died. Unless it had not sent it yet, nobody can know whether it was paid.
  if redis.call('HGET', record, 'unsent') ~= r[2] then
    redis.call('HINCRBY', prefix .. 'stats', 'possibly_double_paid', 1)
  end
  r[5] = redis.call('HINCRBY', record, 'attempts', 1)
end
if r[1] == 'queued' and r[6] == 'batch' then -- by a worker of its group's queue
  redis.call('HINCRBY', prefix .. 'group:' .. r[3], 'queued_bytes', -r[9])
  redis.call('HINCRBY', prefix .. 'group:' .. r[3], 'queued_inputs', -r[10])
end
redis.call('ZREM', prefix .. 'waiting:' .. credential, id)
redis.call('ZADD', calls, now + ARGV[4], id)
redis.call('HSET', record, 'state', 'running', 'owner', token, 'lease_until', now + ARGV[4])
if ARGV[5] == 'take' then
  redis.call('HSET', record, 'unsent', token) -- of an older version nothing is known: it writes no token here
elseif ARGV[5] == 'send' then
  redis.call('HDEL', record, 'unsent')
end
redis.call('ZADD', prefix .. 'standing', now + ARGV[4], id)
return { tostring(r[5] or 0), r[6], r[7], credential, g[2] or '', g[3] or '', g[4] or '', g[5] or '',
  g[6] or 'openai', g[7] or '' }
