-- What a request without an Idempotency-Key repeats. What is no orphan is shared only with a retry that has tried
-- more often than the request's own clients have: two retries that never reached us before are not given one answer.
-- Uses equal.lua.

-- An error that nobody has fetched is the answer to who asks anew for so long (s); later, what it was about may have
-- been mended.
local ERROR_SECONDS = 600

-- The numbers of the fronts that live, in order.
local function living_fronts(prefix, now)
  local living = {}
  for _, number in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'fronts', '(' .. now, '+inf')) do
    living[#living + 1] = tonumber(number)
  end
  table.sort(living)
  return living
end

-- The request with the lowest score of a range that `fits`, and its score. One whose record is gone is forgotten, and
-- one of which `fits` says nil.
local function lowest(prefix, index, min, max, fits)
  local passed = 0
  for _ = 1, 400 do
    local found = redis.call('ZRANGEBYSCORE', index, min, max, 'WITHSCORES', 'LIMIT', passed, 1)
    if not found[1] then
      return nil
    end
    local r = redis.call('HMGET', prefix .. 'request:' .. found[1], 'state', 'tries', 'kind', 'settled')
    local verdict = r[1] and fits(r[1], tonumber(r[2] or 0), r[3] or '', tonumber(r[4] or 0))
    if verdict then
      return found[1], tonumber(found[2])
    elseif verdict == nil or not r[1] then
      redis.call('ZREM', index, found[1])
    else
      passed = passed + 1
    end
  end
end

-- The oldest of the lowest ones in several ranges.
local function oldest(prefix, index, ranges, fits)
  local id, age
  for _, range in ipairs(ranges) do
    local candidate, score = lowest(prefix, index, range[1], range[2], fits)
    if candidate and (not age or score % 1 < age) then
      id, age = candidate, score % 1
    end
  end
  return id, age
end

-- The id of what it repeats, whose client `front` is now, and true if that is news; or "later", or "".
local function predecessor(prefix, index, request, living, front, since, seconds)
  local id, attempt, tries = request.id, request.attempt, request.tries
  local function any()
    return true
  end
  local function timely(state, _, kind, settled)
    if state ~= 'settled' or kind:find('^successful') or seconds - settled / 1000 < ERROR_SECONDS then
      return true
    end
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
  as_zset(index)
  local dead, alive, from = {}, {}, '0'
  for _, number in ipairs(living) do
    dead[#dead + 1] = { from, '(' .. number }
    alive[#alive + 1] = { number, '(' .. number + 1 }
    from = number + 1
  end
  dead[#dead + 1] = { from, '+inf' }
  local found, age = oldest(prefix, index, dead, attempt == 'first' and timely or any)
  if not found and attempt ~= 'first' then
    if attempt == 'retry' and oldest(prefix, index, alive, any) then
      return 'later'
    end
    found, age = oldest(prefix, index, alive, unfinished)
    if not found then
      found = lowest(prefix, index, '-inf', since, tried_less)
      age = seconds / 4294967296
    end
  end
  if not found then
    return ''
  end
  redis.call('ZADD', index, front + age, found)
  redis.call('HSET', prefix .. 'request:' .. found, 'attached', 1, 'tries', tries)
  redis.call('SET', prefix .. 'taken:' .. id, found .. ' ' .. index, 'EX', 60)
  return found, true
end
