#!lua
-- Lets one relayed call of an access token through, or says why not. As in accept.lua, but nothing waits.
--
-- ARGV: key prefix, label, requests per minute (0: any), micro-dollars per day (0: any).
-- Returns "", "!rate <ms>" or "!spent <ms>".
-- include allowance

local prefix, label, per_minute, dollars = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if is_spent(prefix, label, dollars, now) then
  return spent_reply(now)
end
if per_minute > 0 then
  local key = prefix .. 'label:' .. label
  local rate, why = paced(tonumber(redis.call('HGET', key, 'rate') or 0), per_minute, now)
  if not rate then
    return why
  end
  redis.call('HSET', key, 'rate', string.format('%.0f', rate))
  if redis.call('TTL', key) < 0 then
    redis.call('EXPIRE', key, 86400)
  end
end
return ''
