#!lua flags=allow-oom
-- Closes one group if it is full or old enough: moves its oldest requests into a new batch.
--
-- ARGV: key prefix, group id, new batch id, limits (requests, bytes, inputs), hold (ms),
--       time within which the next step must begin (ms).
-- Returns how many requests the batch has; 0: the group stays open, or is empty and forgotten.
local prefix, group, batch = ARGV[1], ARGV[2], ARGV[3]
local max_requests, max_bytes, max_inputs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
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
local fields = redis.call('HMGET', info, 'queued_bytes', 'queued_inputs', 'not_before')
if tonumber(fields[3] or 0) > now then
  return 0
end
local g = redis.call('HMGET', info, 'credential', 'endpoint', 'model', 'organization', 'project')
if not g[2] then
  return 0 -- nothing is touched that could not be sent
end
local opened = tonumber(redis.call('ZSCORE', index, group) or 0)
local full = queued >= max_requests or tonumber(fields[1] or 0) >= max_bytes or tonumber(fields[2] or 0) >= max_inputs
if not full and now - opened < tonumber(ARGV[7]) then
  return 0
end

local lines = prefix .. 'lines:' .. batch
local count, bytes, inputs, left = 0, 0, 0, nil
while count < max_requests do
  local message = redis.call('RPOP', queue)
  if not message then
    break
  end
  local id = message:match('"correlation_id": *"(%x+)"') or ''
  local record = prefix .. 'request:' .. id
  local r = redis.call('HMGET', record, 'state', 'lane', 'bytes', 'inputs', 'queued')
  if r[1] == 'queued' then -- anything else is a second copy of a message that was dealt with
    if count > 0 and (bytes + r[3] > max_bytes or inputs + r[4] > max_inputs) then
      redis.call('RPUSH', queue, message)
      left = r[5]
      break
    end
    count, bytes, inputs = count + 1, bytes + r[3], inputs + r[4]
    redis.call('HSET', record, 'state', 'batched', 'owner', batch)
    redis.call('ZREM', prefix .. 'standing', id)
    redis.call('RPUSH', lines, id .. ':' .. r[3])
  end
end

local rest = redis.call('LLEN', queue)
if rest == 0 then
  redis.call('ZREM', index, group)
  redis.call('HDEL', info, 'queued_bytes', 'queued_inputs', 'not_before')
else
  if not left then
    local id = redis.call('LINDEX', queue, -1):match('"correlation_id": *"(%x+)"') or ''
    left = redis.call('HGET', prefix .. 'request:' .. id, 'queued')
  end
  redis.call('ZADD', index, left or now, group)
  redis.call('HINCRBY', info, 'queued_bytes', -bytes)
  redis.call('HINCRBY', info, 'queued_inputs', -inputs)
end
if count > 0 then
  redis.call('HSET', prefix .. 'batch:' .. batch, 'state', 'claimed', 'group', group, 'count', count, 'bytes', bytes,
    'claimed', now, 'credential', g[1], 'endpoint', g[2], 'model', g[3], 'organization', g[4], 'project', g[5])
  redis.call('ZADD', prefix .. 'batches', now + ARGV[8], batch)
  redis.call('HINCRBY', prefix .. 'stats', 'batches_total', 1)
end
return count
