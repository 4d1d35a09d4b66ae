-- Removes a session with everything kept for it and answers its record, or nothing if it was not there; one of which only
-- the checkpoint is left, too. That it was ended is remembered for a while.
-- KEYS[1] its record, KEYS[2] where that is remembered, KEYS[3] its artifacts, KEYS[4] its checkpoint.
-- ARGV: birth, '' for any; for how long, in ms; the lease state of one that has no browser.
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
if not record[1] then
  record = redis.call('HMGET', KEYS[4], 'birth', 'doc', 'made', 'made', 'idle', 'hard')
  record[7] = ARGV[3]
end
if not record[1] or (ARGV[1] ~= '' and record[1] ~= ARGV[1]) then
  return false
end
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
redis.call('SET', KEYS[2], record[1], 'PX', ARGV[2])
record[8] = '0'
return record
