-- Removes a session and answers its record, or nothing if it was not there. What was ended, and by whom, is remembered for a
-- while: who asks again because the answer was lost gets the same one.
-- KEYS[1] its record, KEYS[2] where that is remembered. ARGV: birth, '' for any; for how long, in ms; who asks, drawn for this.
local function read(key)
  return redis.call('HMGET', key, 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
end
local record = read(KEYS[1])
if not record[1] or (ARGV[1] ~= '' and record[1] ~= ARGV[1]) then
  return redis.call('HGET', KEYS[2], 'by') == ARGV[3] and read(KEYS[2])
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'by', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return record
