-- Reads a session and prolongs it by its idle time, never beyond its longest lifetime. Answers its record, or nothing.
-- KEYS[1] its record, KEYS[2] its artifacts, KEYS[3] its checkpoint.
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
if not record[1] then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = math.min(now + record[5], tonumber(record[6]))
redis.call('HSET', KEYS[1], 'used', now)
redis.call('PEXPIREAT', KEYS[1], ends)
redis.call('PEXPIREAT', KEYS[2], ends)
record[4] = tostring(now)
record[8] = tostring(redis.call('EXISTS', KEYS[3]))
return record
