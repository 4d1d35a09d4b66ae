-- Brings back a session of which only the checkpoint is left. Answers {its end, record…}, or nothing.
-- KEYS[1] its record, KEYS[2] its checkpoint. ARGV: its lease state.
local fields = { 'birth', 'doc', 'made', 'used', 'idle', 'hard', 'lease' }
if redis.call('EXISTS', KEYS[1]) == 0 then
  local parked = redis.call('HMGET', KEYS[2], 'birth', 'doc', 'made', 'idle', 'hard')
  if not parked[1] then
    return false
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'birth', parked[1], 'doc', parked[2], 'made', parked[3], 'used', now, 'idle', parked[4],
    'hard', parked[5], 'held', '', 'lease', ARGV[1])
  redis.call('PEXPIREAT', KEYS[1], math.min(now + parked[4], tonumber(parked[5])))
end
local record = redis.call('HMGET', KEYS[1], unpack(fields))
record[8] = tostring(redis.call('EXISTS', KEYS[2]))
return { redis.call('PEXPIRETIME', KEYS[1]), record }
