-- Removes a session with everything kept for it and answers its record, or nothing if it was not there; one of which only
-- the checkpoint is left, too. What was ended, and by whom, is remembered for a while: who asks again because the answer was
-- lost gets the same one.
-- KEYS[1] its record, KEYS[2] where that is remembered, KEYS[3] its artifacts, KEYS[4] its checkpoint.
-- ARGV: birth, '' for any; for how long, in ms; who asks, drawn for this; the lease state of one that has no browser.
local function read(key)
  return redis.call('HMGET', key, 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
end
local record = read(KEYS[1])
if not record[1] then
  record = redis.call('HMGET', KEYS[4], 'birth', 'doc', 'made', 'made', 'idle', 'hard')
  record[7] = ARGV[4]
end
if not record[1] or (ARGV[1] ~= '' and record[1] ~= ARGV[1]) then
  return redis.call('HGET', KEYS[2], 'by') == ARGV[3] and read(KEYS[2])
end
redis.call('DEL', unpack(KEYS))
redis.call('HSET', KEYS[2], 'birth', record[1], 'doc', record[2], 'made', record[3], 'used', record[4], 'idle', record[5],
  'hard', record[6], 'lease', record[7], 'by', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return record
