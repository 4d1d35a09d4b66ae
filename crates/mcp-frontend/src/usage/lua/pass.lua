-- Whether one more request may pass: they may come at an even pace, and a second's worth at once.
-- KEYS[1] when the next one would be due if they came evenly, in µs. ARGV: requests per second.
-- Answers 0, or how many ms to wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = 1000000 / ARGV[1]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local early = due - now - (1000000 - interval)
if early > 0 then
  return math.ceil(early / 1000)
end
redis.call('SET', KEYS[1], string.format('%.0f', due + interval), 'PX', 3000)
return 0
