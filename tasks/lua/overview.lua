#!lua flags=no-writes,allow-oom
-- What is queued and what is in flight, for people who look. Bounded: so many groups and batches are described,
-- of further groups the requests are only counted, up to 5,000 groups.
--
-- ARGV: key prefix, most groups, most batches.
-- Returns {requests queued for batches, groups, {group...}, batches not done, {batch...}}; a group or batch is one string
-- of the fields below, tabs between: ten times as quick to read as lists.
local prefix, most_groups, most_batches = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local queued, groups, batches = 0, {}, {}
local function plain(model, provider) -- a caller's own words; where models are mixed, whose they are
  if not model or model == '' then
    return provider or ''
  end
  return (model:sub(1, 100):gsub('%c', ' '))
end
local ids = redis.call('ZRANGE', prefix .. 'groups', 0, 4999, 'WITHSCORES')
for at = 1, #ids, 2 do
  local length = redis.call('LLEN', 'batch.' .. ids[at])
  queued = queued + length
  if #groups < most_groups and length > 0 then
    local g = redis.call('HMGET', prefix .. 'group:' .. ids[at], 'queued_bytes', 'model', 'endpoint', 'credential', 'max_wait',
      'provider')
    groups[#groups + 1] = table.concat({ ids[at], ids[at + 1], length, g[1] or '0', g[3] or '', g[4] or '', g[5] or '0',
      plain(g[2], g[6]) }, '\t')
  end
end
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'batches', 0, most_batches - 1)) do
  local b = redis.call('HMGET', prefix .. 'batch:' .. id, 'state', 'group', 'count', 'bytes', 'claimed', 'submitted', 'uploads',
    'failures', 'progress_completed', 'progress_failed', 'upstream_id', 'upstream_status', 'endpoint', 'credential',
    'canceled', 'model', 'provider')
  for i = 1, 15 do
    b[i] = b[i] or ''
  end
  b[16], b[17] = plain(b[16], b[17]), nil
  batches[#batches + 1] = id .. '\t' .. table.concat(b, '\t')
end
return { queued, redis.call('ZCARD', prefix .. 'groups'), groups, redis.call('ZCARD', prefix .. 'batches'), batches }
