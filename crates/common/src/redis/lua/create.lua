-- Creates a session unless one of this name lives. Answers {created, record…}.
-- KEYS[1] its record. ARGV: birth, what it is, idle time and longest lifetime in ms, lease id or '', lease state.
local birth = redis.call('HGET', KEYS[1], 'birth')
if not birth then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local hard = now + ARGV[4]
  redis.call('HSET', KEYS[1], 'birth', ARGV[1], 'doc', ARGV[2], 'made', now, 'used', now, 'idle', ARGV[3],
    'hard', hard, 'held', ARGV[5], 'lease', ARGV[6])
  redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[3], hard))
end
-- The same birth: we are asked again because our answer was lost.
local created = (not birth or birth == ARGV[1]) and 1 or 0
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
return { created, redis.call('PEXPIRETIME', KEYS[1]), record }
