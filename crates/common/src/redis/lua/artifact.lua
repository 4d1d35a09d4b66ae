-- An artifact of a living session: what it is, and itself. KEYS[1] its record, KEYS[2] its artifacts. ARGV: birth, id.
if redis.call('HGET', KEYS[1], 'birth') ~= ARGV[1] then
  return { false, false }
end
return redis.call('HMGET', KEYS[2], 'd:' .. ARGV[2], 'b:' .. ARGV[2])
