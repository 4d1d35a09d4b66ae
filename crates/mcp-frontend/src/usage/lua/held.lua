-- What the places are for that have not lapsed. KEYS: the places by when they lapse, what each is for.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'LIMIT', 0, 1000)
if #held == 0 then
  return {}
end
return redis.call('HMGET', KEYS[2], unpack(held))
