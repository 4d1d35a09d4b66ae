-- Reads a connection and prolongs it. KEYS: its record, the sessions its calls named. ARGV: time to live in ms.
-- Answers {what it is, when it was made, now, {session, …}}, or nothing.
local record = redis.call('HMGET', KEYS[1], 'doc', 'made')
if not record[1] then
  return false
end
local time = redis.call('TIME')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return { record[1], tonumber(record[2]), now, redis.call('LRANGE', KEYS[2], 0, -1) }
