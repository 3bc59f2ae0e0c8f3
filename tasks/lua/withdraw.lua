#!lua flags=allow-oom
-- Takes back requests that were answered 503 because nobody could say whether they had been accepted,
-- or whose clients went away and want nothing any more.
--
-- ARGV: key prefix, counter that notes it ("requests_total": they never counted, or "requests_cancelled"),
--       then request ids. Returns how many had been accepted and are taken back;
-- one that has been collected meanwhile, or has got a second caller, stays.
local prefix, counter, withdrawn = ARGV[1], ARGV[2], 0
for i = 3, #ARGV do
  -- An orphan that it had taken is one again; see accept.lua.
  local taken = redis.call('GET', prefix .. 'taken:' .. ARGV[i])
  if taken then
    local orphan, index = taken:match('^(%x+) (.+)$')
    local score = redis.pcall('ZSCORE', index, orphan) -- an error where it is an index of one, and another's
    score = tonumber(type(score) == 'string' and score or -1)
    if score > 0 then
      redis.call('ZADD', index, score % 1, orphan)
    end
    redis.call('DEL', prefix .. 'taken:' .. ARGV[i])
  end
  local record = prefix .. 'request:' .. ARGV[i]
  local r = redis.call('HMGET', record, 'state', 'idempotency', 'attached', 'lane', 'group', 'bytes', 'inputs',
    'label')
  if r[1] == 'queued' and not r[3] then
    -- Its message stays and is dropped when it is met: it finds no record.
    redis.call('DEL', record, prefix .. 'body:' .. ARGV[i])
    redis.call('ZREM', prefix .. 'standing', ARGV[i])
    if r[2] then
      redis.call('DEL', prefix .. 'idempotency:' .. r[2])
    end
    if r[4] == 'batch' then
      redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_bytes', -r[6])
      redis.call('HINCRBY', prefix .. 'group:' .. r[5], 'queued_inputs', -r[7])
    else -- nobody is to be called who does not come
      local credential = redis.call('HGET', prefix .. 'group:' .. r[5], 'credential') or ''
      redis.call('ZREM', prefix .. 'waiting:' .. credential, ARGV[i])
    end
    if redis.call('DECR', prefix .. 'unsettled') <= 0 then
      redis.call('DEL', prefix .. 'unsettled')
    end
    if r[8] and redis.call('HINCRBY', prefix .. 'label:' .. r[8], 'waiting', -1) <= 0 then
      redis.call('HDEL', prefix .. 'label:' .. r[8], 'waiting')
    end
    redis.call('HINCRBY', prefix .. 'stats', counter, counter == 'requests_total' and -1 or 1)
    withdrawn = withdrawn + 1
  end
end
return withdrawn
