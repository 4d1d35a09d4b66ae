-- Removes a session and answers its record, or nothing if it was not there. That it was ended is remembered for a while.
-- KEYS[1] its record, KEYS[2] where that is remembered. ARGV: birth, '' for any; for how long, in ms.
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
if not record[1] or (ARGV[1] ~= '' and record[1] ~= ARGV[1]) then
  return false
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], record[1], 'PX', ARGV[2])
return record
