-- Forgets a connection. What was ended, and by whom, is remembered for a while: who asks again because the answer was lost
-- gets the same one. KEYS: its record, the sessions its calls named, where that is remembered. ARGV: who asks, drawn for this;
-- for how long, in ms. Answers what `touch.lua` does.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local record = redis.call('HMGET', KEYS[1], 'doc', 'made')
if not record[1] then
  local ended = redis.call('HMGET', KEYS[3], 'by', 'doc', 'made', 'sessions')
  return ended[1] == ARGV[1] and { ended[2], tonumber(ended[3]), now, cjson.decode(ended[4]) }
end
local sessions = redis.call('LRANGE', KEYS[2], 0, -1)
redis.call('RENAME', KEYS[1], KEYS[3])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[3], 'by', ARGV[1], 'sessions', cjson.encode(sessions))
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return { record[1], tonumber(record[2]), now, sessions }
