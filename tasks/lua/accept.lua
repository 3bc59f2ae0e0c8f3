#!lua
-- Accepts requests: stores body and record, queues the message, remembers the idempotency key.
-- All of it or nothing; run again with the same ids it changes nothing.
--
-- ARGV: key prefix, batch limits (requests, bytes, inputs), collect message, lifetime (s), time (ms)
--       after which the sweep looks whether its message is still there,
--       what becomes of requests that cannot be batched ("sync" or "reject"), number of groups,
--       then per group: id, credential ref, sealed credential, endpoint, model, organization, project,
--       longest wait (s); then per request: id, group id, lane, message, body, line bytes,
--       inputs, idempotency digest or "", fingerprint.
-- Returns per request: "" accepted, "conflict", or the id of the request that it repeats.
local prefix, max_requests, max_bytes, max_inputs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local collect_message, lifetime, patience = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = 10
local touched, diverted = {}, {}

for _ = 1, tonumber(ARGV[9]) do
  local id, credential = ARGV[at], ARGV[at + 1]
  local key = prefix .. 'group:' .. id
  redis.call('SET', prefix .. 'credential:' .. credential, ARGV[at + 2], 'EX', lifetime)
  redis.call('HSET', key, 'credential', credential, 'endpoint', ARGV[at + 3], 'model', ARGV[at + 4],
    'organization', ARGV[at + 5], 'project', ARGV[at + 6], 'max_wait', ARGV[at + 7])
  redis.call('EXPIRE', key, lifetime)
  local unbatchable = tonumber(redis.call('HGET', key, 'unbatchable_until') or 0) > now
  diverted[id] = unbatchable and ARGV[8] == 'sync'
  at = at + 8
end

local replies, accepted = {}, 0
while ARGV[at] do
  local id, group, lane, digest, fingerprint = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 7], ARGV[at + 8]
  local record = prefix .. 'request:' .. id
  local reply = ''
  if redis.call('EXISTS', record) == 0 then
    if digest ~= '' then
      local known = redis.call('GET', prefix .. 'idempotency:' .. digest)
      if known then
        local original, print = known:match('^(%x+) (%x+)$')
        if redis.call('EXISTS', prefix .. 'request:' .. original) == 1 then
          reply = print == fingerprint and original or 'conflict'
          redis.call('HSET', prefix .. 'request:' .. original, 'attached', 1)
        end
      end
    end
    if reply == '' then
      accepted = accepted + 1
      local queued = ARGV[at + 3]
      if lane == 'batch' and diverted[group] then
        lane, queued = 'sync', queued:gsub('"batch%.%x+"', '"sync"')
      end
      redis.call('SET', prefix .. 'body:' .. id, ARGV[at + 4])
      redis.call('HSET', record, 'state', 'queued', 'owner', '', 'group', group, 'lane', lane,
        'accepted', now, 'queued', now, 'bytes', ARGV[at + 5], 'inputs', ARGV[at + 6])
      if digest ~= '' then
        redis.call('SET', prefix .. 'idempotency:' .. digest, id .. ' ' .. fingerprint)
        redis.call('HSET', record, 'idempotency', digest)
      end
      redis.call('ZADD', prefix .. 'standing', now + patience, id)
      if lane ~= 'batch' then
        redis.call('LPUSH', 'sync', queued)
      else
        redis.call('LPUSH', 'batch.' .. group, queued)
        redis.call('ZADD', prefix .. 'groups', 'NX', now, group)
        local sum = touched[group] or { 0, 0 }
        touched[group] = { sum[1] + ARGV[at + 5], sum[2] + ARGV[at + 6] }
      end
    end
  end
  replies[#replies + 1] = reply
  at = at + 9
end

local full = false
for group, sum in pairs(touched) do
  local key = prefix .. 'group:' .. group
  local bytes = redis.call('HINCRBY', key, 'queued_bytes', sum[1])
  local inputs = redis.call('HINCRBY', key, 'queued_inputs', sum[2])
  full = full or bytes >= max_bytes or inputs >= max_inputs or redis.call('LLEN', 'batch.' .. group) >= max_requests
end
if accepted > 0 then
  redis.call('HINCRBY', prefix .. 'stats', 'requests_total', accepted)
end
-- A full group is closed now and not at the next tick; one waiting message serves all.
if full and redis.call('LLEN', 'collect') == 0 then
  redis.call('LPUSH', 'collect', collect_message)
end
return replies
