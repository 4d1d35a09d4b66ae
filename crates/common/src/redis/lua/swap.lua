-- Replaces the lease state of a session (bind, unbind, remember a loss) if it holds what is expected.
-- KEYS[1] its record. ARGV: birth, expected lease id or '', next lease id or '', next lease state.
-- Answers {'done'}, {'conflict', lease state} or {'gone'}.
local record = redis.call('HMGET', KEYS[1], 'birth', 'held', 'lease')
if record[1] ~= ARGV[1] then
  return { 'gone' }
end
if record[2] ~= ARGV[2] then
  return { 'conflict', record[3] }
end
redis.call('HSET', KEYS[1], 'held', ARGV[3], 'lease', ARGV[4])
return { 'done' }
