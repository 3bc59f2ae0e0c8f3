-- The index of equal requests without an Idempotency-Key, `equal:<digest>`: a zset, so that any number of them is
-- searched in no time; one that has no equal, as most have none, is a string "<id> <score>", which takes half as
-- many commands:
--   score  n + t   a client of front n waits for it; t: the seconds of its acceptance, divided by 2^32
--          < 0     a success, delivered at -score seconds
-- One whose front is not in `fronts` is an orphan. Whoever takes it becomes its client in the same step.

-- A request's score or nil, and whether the index is a string.
local function score_of(index, id)
  local alone = redis.pcall('GET', index)
  if type(alone) == 'table' then -- another type than a string
    return tonumber(redis.call('ZSCORE', index, id) or nil), false
  end
  local own, score = (alone or ''):match('^(%x+) (.+)$')
  return own == id and tonumber(score) or nil, true
end

-- Writes it; the index is kept for so many seconds at least, or as long as it would have been.
local function put(index, id, score, alone, seconds)
  if alone then
    redis.call('SET', index, string.format('%s %.17g', id, score), unpack(seconds and { 'EX', seconds } or { 'KEEPTTL' }))
  else
    redis.call('ZADD', index, score, id)
    if seconds then
      redis.call('EXPIRE', index, seconds, 'GT')
    end
  end
end

local function as_zset(index)
  local alone = redis.pcall('GET', index)
  if type(alone) == 'string' then
    local id, score = alone:match('^(%x+) (.+)$')
    local rest = redis.call('PTTL', index)
    redis.call('DEL', index)
    redis.call('ZADD', index, score, id)
    redis.call('PEXPIRE', index, rest)
  end
end
