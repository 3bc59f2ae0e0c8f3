-- What an access token may still do, see allowances.py: money by the day, calls by the minute (GCRA).

local DAY = 86400000

local function is_spent(prefix, label, dollars, now)
  return dollars > 0 and tonumber(redis.call('HGET', prefix .. 'spent:' .. math.floor(now / DAY), label) or 0) >= dollars
end

local function spent_reply(now)
  return '!spent ' .. DAY - now % DAY
end

-- The label's rate after one more call, or nil and why not.
local function paced(rate, per_minute, now)
  local after = math.max(rate, now) + 60000 / per_minute
  if after - now > 60001 then
    return nil, '!rate ' .. math.ceil(after - now - 60000)
  end
  return after
end
