#!lua flags=allow-oom
-- Takes the upstream's word that a batch has ended: somebody shall look at it now. Each word is taken once.
--
-- ARGV: key prefix, id of the event, the upstream's id of the batch, time (s) for which an event is remembered,
--       message of tasks.look with ID in place of the batch's id.
-- Returns "replayed", "unknown" (not a batch of ours, or none that runs) or our id of the batch.
local prefix = ARGV[1]
if not redis.call('SET', prefix .. 'event:' .. ARGV[2], 1, 'NX', 'EX', ARGV[4]) then
  return 'replayed'
end
local batch = redis.call('GET', prefix .. 'upstream:' .. ARGV[3])
if not batch or redis.call('HGET', prefix .. 'batch:' .. batch, 'state') ~= 'submitted' then
  return 'unknown'
end
redis.call('LPUSH', 'control', (ARGV[5]:gsub('ID', batch)))
return batch
