#!lua
-- Accepts requests: stores body and record, queues the message, remembers the idempotency key.
-- All of it or nothing; run again with the same ids it changes nothing.
--
-- ARGV: key prefix, batch limits (requests, bytes, inputs), collect message, lifetime (s), time (ms)
--       after which the sweep looks whether its message is still there, what becomes of requests that
--       cannot be batched ("sync" or "reject"), number of the front (presence.lua), time (s) for which a
--       delivered success may be asked for by a retry, most requests that may wait in all, most synchronous
--       calls of a credential, number of groups, then per group: id, credential ref, sealed credential,
--       endpoint, model, organization, project, longest wait (s), provider, extra, label of the access token or ""
--       and its limits (requests per minute, requests that wait, micro-dollars per day; 0: any); then per request: id,
--       group id, lane, message, body, line bytes, inputs, digest, fingerprint, and what the digest is: "key"
--       of an Idempotency-Key, or else of equal requests, with the caller's attempt: "first", "retry" or "join"
--       (models.Attempt); how often its SDK says that it has tried before.
-- Returns per request: "" accepted, "conflict", "later", the id of the request that it repeats, or why it is refused:
-- "!full", "!waiting", "!rate <ms>", "!spent <ms>" (allowances.py). What repeats another is never refused.
-- include equal
-- include predecessor
-- include allowance
local prefix, max_requests, max_bytes, max_inputs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local collect_message, lifetime, patience = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now, seconds = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(time[1])
local front = tonumber(ARGV[9])
local at = 14
local touched, diverted, credentials, heads, sent, attached = {}, {}, {}, {}, {}, 0
local unsettled = tonumber(redis.call('GET', prefix .. 'unsettled') or 0)
local allowances, labels = {}, {} -- by label; label by group

local function allowance(label, per_minute, waiting, dollars)
  local l = redis.call('HMGET', prefix .. 'label:' .. label, 'waiting', 'rate')
  return { per_minute = per_minute, most = waiting, spent = is_spent(prefix, label, dollars, now),
    waiting = tonumber(l[1] or 0), rate = tonumber(l[2] or 0), new = 0 }
end

for _ = 1, tonumber(ARGV[13]) do
  local id = ARGV[at]
  heads[id], credentials[id] = at, ARGV[at + 1]
  local label = ARGV[at + 10]
  if label ~= '' then
    labels[id] = label
    allowances[label] = allowances[label]
      or allowance(label, tonumber(ARGV[at + 11]), tonumber(ARGV[at + 12]), tonumber(ARGV[at + 13]))
  end
  at = at + 14
end

-- What a group's requests share, with the first one of it that is accepted: what is refused leaves nothing behind.
local function open_group(id)
  local h = heads[id]
  if h then
    heads[id] = nil
    local key = prefix .. 'group:' .. id
    redis.call('SET', prefix .. 'credential:' .. ARGV[h + 1], ARGV[h + 2], 'EX', lifetime)
    redis.call('HSET', key, 'credential', ARGV[h + 1], 'endpoint', ARGV[h + 3], 'model', ARGV[h + 4],
      'organization', ARGV[h + 5], 'project', ARGV[h + 6], 'max_wait', ARGV[h + 7],
      'provider', ARGV[h + 8], 'extra', ARGV[h + 9])
    redis.call('EXPIRE', key, lifetime)
    local g = redis.call('HMGET', key, 'unbatchable_until', 'format')
    if ARGV[h + 8] ~= 'openai' and tonumber(g[2] or 1) < FORMAT then -- what older ones read rightly is left to them
      redis.call('HSET', key, 'format', FORMAT)
    end
    local unbatchable = tonumber(g[1] or 0) > now
    diverted[id] = unbatchable and ARGV[8] == 'sync'
  end
end

local living = living_fronts(prefix, now)

-- What all of them have in common is asked and written at once.
local records, indexes = {}, {}
for i = at, #ARGV, 11 do
  records[#records + 1] = prefix .. 'request:' .. ARGV[i]
  indexes[#indexes + 1] = prefix .. 'equal:' .. ARGV[i + 7]
end
local any_known = #records > 0 and redis.call('EXISTS', unpack(records)) > 0
local any_equal = #records > 0 and redis.call('EXISTS', unpack(indexes)) > 0
local seen, bodies, standing, queues = {}, {}, {}, {}
local function push(queue, queued)
  local messages = queues[queue] or {}
  messages[#messages + 1] = queued
  queues[queue] = messages
end

local replies, accepted = {}, 0

-- Why a new request is not accepted, or ""; then it has been taken out of its label's allowance.
local function refusal(a)
  if unsettled + accepted >= tonumber(ARGV[11]) then
    return '!full'
  end
  if not a then
    return ''
  end
  if a.spent then
    return spent_reply(now)
  end
  if a.most > 0 and a.waiting + a.new >= a.most then
    return '!waiting'
  end
  if a.per_minute > 0 then
    local rate, why = paced(a.rate, a.per_minute, now)
    if not rate then
      return why
    end
    a.rate = rate
  end
  a.new = a.new + 1
  return ''
end

while ARGV[at] do
  local id, group, lane, digest, fingerprint = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 7], ARGV[at + 8]
  local attempt, tries = ARGV[at + 9], tonumber(ARGV[at + 10])
  local record = prefix .. 'request:' .. id
  local reply = ''
  if not any_known or redis.call('EXISTS', record) == 0 then
    local index = prefix .. 'equal:' .. digest
    local equal = seen[index] or any_equal and redis.call('EXISTS', index) == 1
    if attempt ~= 'key' then
      if equal then
        local is_new
        reply, is_new = predecessor(prefix, index, { id = id, attempt = attempt, tries = tries }, living, front,
          ARGV[10] - seconds, seconds)
        attached = attached + (is_new and 1 or 0)
        equal = redis.call('EXISTS', index) == 1 -- it forgets what is gone
      end
    else
      local known = redis.call('GET', prefix .. 'idempotency:' .. digest)
      if known then
        local original, print = known:match('^(%x+) (%x+)$')
        if redis.call('EXISTS', prefix .. 'request:' .. original) == 1 then
          reply = 'conflict'
          if print == fingerprint then
            reply = original
            redis.call('HSET', prefix .. 'request:' .. original, 'attached', 1)
            attached = attached + 1
          end
        end
      end
    end
    local label = labels[group]
    if reply == '' then
      reply = refusal(allowances[label])
    end
    if reply == '' then
      accepted = accepted + 1
      open_group(group)
      local queued = ARGV[at + 3]
      if lane == 'batch' and diverted[group] then
        lane, queued = 'sync', queued:gsub('"batch%.%x+"', '"sync"')
      end
      bodies[#bodies + 1] = prefix .. 'body:' .. id
      bodies[#bodies + 1] = ARGV[at + 4]
      redis.call('HSET', record, 'state', 'queued', 'owner', '', 'group', group, 'lane', lane,
        'accepted', now, 'queued', now, 'bytes', ARGV[at + 5], 'inputs', ARGV[at + 6])
      if label then
        redis.call('HSET', record, 'label', label)
      end
      if attempt ~= 'key' then
        put(index, id, front + seconds / 4294967296, not equal, lifetime)
        seen[index] = true
        if tries > 0 then
          redis.call('HSET', record, 'tries', tries)
        end
      else
        redis.call('SET', prefix .. 'idempotency:' .. digest, id .. ' ' .. fingerprint)
        redis.call('HSET', record, 'idempotency', digest)
      end
      standing[#standing + 1] = now + patience
      standing[#standing + 1] = id
      if lane ~= 'batch' then
        -- As many as may be sent at the same time are queued; the others wait their turn (run.lua), or the queue would
        -- be full of them, and another caller's behind them.
        local waiting = prefix .. 'waiting:' .. credentials[group]
        local before = sent[waiting] or redis.call('EXISTS', waiting) * ARGV[12]
        if before >= tonumber(ARGV[12]) then
          redis.call('ZADD', waiting, now, id)
        else
          push('sync', queued)
        end
        sent[waiting] = before + 1
      else
        push('batch.' .. group, queued)
        local sum = touched[group] or { 0, 0 }
        touched[group] = { sum[1] + ARGV[at + 5], sum[2] + ARGV[at + 6] }
      end
    end
  end
  replies[#replies + 1] = reply
  at = at + 11
end

if accepted > 0 then
  redis.call('MSET', unpack(bodies))
  redis.call('ZADD', prefix .. 'standing', unpack(standing))
end
for queue, messages in pairs(queues) do
  redis.call('LPUSH', queue, unpack(messages))
end
local full = false
for group, sum in pairs(touched) do
  local key = prefix .. 'group:' .. group
  redis.call('ZADD', prefix .. 'groups', 'NX', now, group)
  local bytes = redis.call('HINCRBY', key, 'queued_bytes', sum[1])
  local inputs = redis.call('HINCRBY', key, 'queued_inputs', sum[2])
  full = full or bytes >= max_bytes or inputs >= max_inputs or redis.call('LLEN', 'batch.' .. group) >= max_requests
end
if accepted > 0 then
  redis.call('HINCRBY', prefix .. 'stats', 'requests_total', accepted)
  redis.call('INCRBY', prefix .. 'unsettled', accepted)
end
for label, a in pairs(allowances) do
  if a.new > 0 then
    local key = prefix .. 'label:' .. label
    redis.call('HINCRBY', key, 'waiting', a.new)
    redis.call('HSET', key, 'rate', string.format('%.0f', a.rate))
    redis.call('EXPIRE', key, lifetime)
  end
end
if attached > 0 then
  redis.call('HINCRBY', prefix .. 'stats', 'attached', attached)
end
-- A full group is closed now and not at the next tick; one waiting message serves all.
if full and redis.call('LLEN', 'collect') == 0 then
  redis.call('LPUSH', 'collect', collect_message)
end
return replies
