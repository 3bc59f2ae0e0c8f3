#!lua flags=allow-oom
-- A front that counted as dead for a while takes its waiters back, as far as nobody else took them.
--
-- ARGV: key prefix, its new number, all that have been its own (",3,8,"), then per waiter: request id, digest of equal requests.
-- Returns per waiter: 1 its own again, 0 another client's.
local prefix, new = ARGV[1], tonumber(ARGV[2])
local replies = {}
for at = 4, #ARGV, 2 do
  local index = prefix .. 'equal:' .. ARGV[at + 1]
  local alone = redis.pcall('GET', index) -- a string while it has no equal: see accept.lua
  local string_score = type(alone) == 'string' and alone:match('^' .. ARGV[at] .. ' (.+)$')
  local score = tonumber(string_score or type(alone) == 'table' and redis.call('ZSCORE', index, ARGV[at]) or -1)
  local mine = score > 0 and ARGV[3]:find(',' .. math.floor(score) .. ',', 1, true)
  if mine and string_score then
    redis.call('SET', index, string.format('%s %.17g', ARGV[at], new + score % 1), 'KEEPTTL')
  elseif mine then
    redis.call('ZADD', index, new + score % 1, ARGV[at])
  end
  replies[#replies + 1] = mine and 1 or 0
end
return replies
