-- Removes a session and answers its record, or nothing if it was not there.
-- KEYS: everything kept of it, its record first. ARGV: birth, '' for any.
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
if not record[1] or (ARGV[1] ~= '' and record[1] ~= ARGV[1]) then
  return false
end
redis.call('DEL', unpack(KEYS))
return record
