-- Creates a session unless one of this name lives. Answers {created, record…}.
-- KEYS[1] its record, KEYS[2] and KEYS[3] what an earlier one of this name kept. ARGV: birth, what it is, idle time and longest lifetime in ms, lease id or '', lease state.
local birth = redis.call('HGET', KEYS[1], 'birth')
if not birth then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local hard = now + ARGV[4]
  if redis.call('HGET', KEYS[3], 'birth') ~= ARGV[1] then
    redis.call('DEL', KEYS[2], KEYS[3])
  end
  redis.call('HSET', KEYS[1], 'birth', ARGV[1], 'doc', ARGV[2], 'made', now, 'used', now, 'idle', ARGV[3],
    'hard', hard, 'held', ARGV[5], 'lease', ARGV[6])
  redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[3], hard))
end
-- The same birth: we are asked again because our answer was lost.
local created = (not birth or birth == ARGV[1]) and 1 or 0
local record = redis.call('HMGET', KEYS[1], 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease')
record[8] = tostring(redis.call('EXISTS', KEYS[3]))
return { created, redis.call('PEXPIRETIME', KEYS[1]), record }
