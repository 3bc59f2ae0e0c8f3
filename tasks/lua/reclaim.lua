#!lua flags=allow-oom
-- A front that counted as dead for a while takes its waiters back, as far as nobody else took them.
--
-- ARGV: key prefix, its new number, all that have been its own (",3,8,"), then per waiter: request id, digest of equal requests.
-- Returns per waiter: 1 its own again, 0 another client's.
-- include equal

local prefix, new = ARGV[1], tonumber(ARGV[2])
local replies = {}
for at = 4, #ARGV, 2 do
  local index = prefix .. 'equal:' .. ARGV[at + 1]
  local score, alone = score_of(index, ARGV[at])
  local mine = score and score > 0 and ARGV[3]:find(',' .. math.floor(score) .. ',', 1, true)
  if mine then
    put(index, ARGV[at], new + score % 1, alone)
  end
  replies[#replies + 1] = mine and 1 or 0
end
return replies
