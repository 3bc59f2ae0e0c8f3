#!lua
-- Accepts requests: stores body and record, queues the message, remembers the idempotency key.
-- All of it or nothing; run again with the same ids it changes nothing.
--
-- ARGV: key prefix, batch limits (requests, bytes, inputs), collect message, lifetime (s), time (ms)
--       after which the sweep looks whether its message is still there, what becomes of requests that
--       cannot be batched ("sync" or "reject"), number of the front (presence.lua), time (s) for which a
--       delivered success may be asked for by a retry, number of groups, then per group: id, credential ref,
--       sealed credential, endpoint, model, organization, project, longest wait (s), provider, extra; then per request: id,
--       group id, lane, message, body, line bytes, inputs, digest, fingerprint, and what the digest is: "key"
--       of an Idempotency-Key, or else of equal requests, with the caller's attempt: "first", "retry" or "join"
--       (models.Attempt); how often its SDK says that it has tried before.
-- Returns per request: "" accepted, "conflict", "later", or the id of the request that it repeats.
--
-- Equal requests are in a zset, so that any number of them is searched in no time:
--   score  n + t   a client of front n waits for it; t: the seconds of its acceptance, divided by 2^32
--          < 0     a success, delivered at -score seconds
-- One whose front is not in `fronts` is an orphan. Whoever takes it becomes its client in the same step.
-- What is no orphan is shared only with a retry that has tried more often than the request's own clients have:
-- two retries that never reached us before are not given one answer.
local prefix, max_requests, max_bytes, max_inputs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local collect_message, lifetime, patience = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local front = tonumber(ARGV[9])
local at = 12
local touched, diverted = {}, {}

for _ = 1, tonumber(ARGV[11]) do
  local id, credential = ARGV[at], ARGV[at + 1]
  local key = prefix .. 'group:' .. id
  redis.call('SET', prefix .. 'credential:' .. credential, ARGV[at + 2], 'EX', lifetime)
  redis.call('HSET', key, 'credential', credential, 'endpoint', ARGV[at + 3], 'model', ARGV[at + 4],
    'organization', ARGV[at + 5], 'project', ARGV[at + 6], 'max_wait', ARGV[at + 7],
    'provider', ARGV[at + 8], 'extra', ARGV[at + 9])
  redis.call('EXPIRE', key, lifetime)
  local unbatchable = tonumber(redis.call('HGET', key, 'unbatchable_until') or 0) > now
  diverted[id] = unbatchable and ARGV[8] == 'sync'
  at = at + 10
end

local living = {}
for _, number in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'fronts', '(' .. now, '+inf')) do
  living[#living + 1] = tonumber(number)
end
table.sort(living)

-- The request with the lowest score of a range that `fits`, and its score. One whose record is gone is forgotten.
local function lowest(index, min, max, fits)
  local passed = 0
  while passed < 200 do
    local found = redis.call('ZRANGEBYSCORE', index, min, max, 'WITHSCORES', 'LIMIT', passed, 1)
    if not found[1] then
      return nil
    end
    local r = redis.call('HMGET', prefix .. 'request:' .. found[1], 'state', 'tries')
    if not r[1] then
      redis.call('ZREM', index, found[1])
    elseif fits(r[1], tonumber(r[2] or 0)) then
      return found[1], tonumber(found[2])
    else
      passed = passed + 1
    end
  end
end

-- The oldest of the lowest ones in several ranges.
local function oldest(index, ranges, fits)
  local id, age
  for _, range in ipairs(ranges) do
    local candidate, score = lowest(index, range[1], range[2], fits)
    if candidate and (not age or score % 1 < age) then
      id, age = candidate, score % 1
    end
  end
  return id, age
end

-- What a request without an Idempotency-Key repeats, or "later", or "".
local function predecessor(index, id, attempt, tries)
  local function any()
    return true
  end
  local function tried_less(_, before)
    return before < tries
  end
  local function unfinished(state, before)
    return state ~= 'settled' and before < tries
  end
  local taken = redis.call('GET', prefix .. 'taken:' .. id)
  if taken then
    return taken:match('^%x+') -- the answer to the first call was lost
  end
  local dead, alive, from = {}, {}, '0'
  for _, number in ipairs(living) do
    dead[#dead + 1] = { from, '(' .. number }
    alive[#alive + 1] = { number, '(' .. number + 1 }
    from = number + 1
  end
  dead[#dead + 1] = { from, '+inf' }
  local found, age = oldest(index, dead, any)
  if not found and attempt ~= 'first' then
    if attempt == 'retry' and oldest(index, alive, any) then
      return 'later'
    end
    found, age = oldest(index, alive, unfinished)
    if not found then
      found = lowest(index, '-inf', ARGV[10] - math.floor(now / 1000), tried_less)
      age = math.floor(now / 1000) / 4294967296
    end
  end
  if not found then
    return ''
  end
  redis.call('ZADD', index, front + age, found)
  redis.call('HSET', prefix .. 'request:' .. found, 'attached', 1, 'tries', tries)
  redis.call('SET', prefix .. 'taken:' .. id, found .. ' ' .. index, 'EX', 60)
  return found
end

local replies, accepted = {}, 0
while ARGV[at] do
  local id, group, lane, digest, fingerprint = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 7], ARGV[at + 8]
  local attempt, tries = ARGV[at + 9], tonumber(ARGV[at + 10])
  local record = prefix .. 'request:' .. id
  local reply = ''
  if redis.call('EXISTS', record) == 0 then
    local index = prefix .. 'equal:' .. digest
    if attempt ~= 'key' then
      if redis.call('EXISTS', index) == 1 then
        reply = predecessor(index, id, attempt, tries)
      end
    else
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
      if attempt ~= 'key' then
        redis.call('ZADD', index, front + math.floor(now / 1000) / 4294967296, id)
        redis.call('EXPIRE', index, lifetime)
        if tries > 0 then
          redis.call('HSET', record, 'tries', tries)
        end
      else
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
  at = at + 11
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
