-- Keeps a checkpoint of a session that lives and holds a lease. Answers when the checkpoint ends; false: it is not kept.
-- KEYS[1] its record, KEYS[2] its checkpoint. ARGV: birth, lease id, the checkpoint.
local record = redis.call('HMGET', KEYS[1], 'birth', 'held', 'doc', 'made', 'idle', 'hard')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
  return false
end
redis.call('HSET', KEYS[2], 'birth', record[1], 'doc', record[3], 'made', record[4], 'idle', record[5],
  'hard', record[6], 'sealed', ARGV[3])
redis.call('PEXPIREAT', KEYS[2], record[6])
return record[6]
