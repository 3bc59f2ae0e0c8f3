#!lua flags=allow-oom
-- Takes one request to be sent synchronously, or renews the lease on it.
--
-- ARGV: key prefix, request id, token, length of the lease (ms), "take" or "renew".
-- Returns {tries so far, credential ref, endpoint, model, organization, project},
-- or {}: it is settled, in a batch, or somebody else is sending it.
local prefix, id, token = ARGV[1], ARGV[2], ARGV[3]
local record = prefix .. 'request:' .. id
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local r = redis.call('HMGET', record, 'state', 'owner', 'group', 'lease_until')
if ARGV[5] == 'renew' and not (r[1] == 'running' and r[2] == token) then
  return {} -- given back meanwhile: a late renewal must not take it again
end
if r[1] == 'running' and r[2] ~= token then
  if tonumber(r[4]) > now then
    return {}
  end
  -- Its worker died while the call was under way: nobody can know whether it was paid.
  redis.call('HINCRBY', prefix .. 'stats', 'possibly_double_paid', 1)
  redis.call('HINCRBY', record, 'attempts', 1)
elseif r[1] ~= 'queued' and r[1] ~= 'running' then
  return {}
end
redis.call('HSET', record, 'state', 'running', 'owner', token, 'lease_until', now + ARGV[4])
redis.call('ZADD', prefix .. 'standing', now + ARGV[4], id)
local g = redis.call('HMGET', prefix .. 'group:' .. r[3], 'credential', 'endpoint', 'model', 'organization', 'project')
local attempts = redis.call('HGET', record, 'attempts') or '0'
return { attempts, g[1] or '', g[2] or '', g[3] or '', g[4] or '', g[5] or '' }
