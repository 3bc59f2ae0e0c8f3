#!lua
-- Lets one relayed call of an access token through, or says why not. As in accept.lua, but nothing waits.
--
-- ARGV: key prefix, label, requests per minute (0: any), micro-dollars per day (0: any).
-- Returns "", "!rate <ms>" or "!spent <ms>".
local prefix, label, per_minute, dollars = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if dollars > 0 then
  local spent = redis.call('HGET', prefix .. 'spent:' .. math.floor(now / 86400000), label)
  if tonumber(spent or 0) >= dollars then
    return '!spent ' .. 86400000 - now % 86400000
  end
end
if per_minute > 0 then
  local key = prefix .. 'label:' .. label
  local rate = math.max(tonumber(redis.call('HGET', key, 'rate') or 0), now) + 60000 / per_minute
  if rate - now > 60001 then
    return '!rate ' .. math.ceil(rate - now - 60000)
  end
  redis.call('HSET', key, 'rate', string.format('%.0f', rate))
  if redis.call('TTL', key) < 0 then
    redis.call('EXPIRE', key, 86400)
  end
end
return ''
