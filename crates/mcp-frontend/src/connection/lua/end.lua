-- Forgets a connection. KEYS: its record, the sessions its calls named. Answers what `touch.lua` does.
local record = redis.call('HMGET', KEYS[1], 'doc', 'made')
if not record[1] then
  return false
end
local sessions = redis.call('LRANGE', KEYS[2], 0, -1)
redis.call('DEL', KEYS[1], KEYS[2])
local time = redis.call('TIME')
return { record[1], tonumber(record[2]), time[1] * 1000 + math.floor(time[2] / 1000), sessions }
