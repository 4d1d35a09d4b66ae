-- Whether so much may pass: it may come at an even pace, and a window's worth at once.
-- KEYS[1] when the next of it would be due if it came evenly, in µs. ARGV: how much, how much in a window, the window in µs.
-- Answers 0, or how many ms to wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = tonumber(ARGV[3])
local takes = window * ARGV[1] / ARGV[2]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local early = due - now + takes - window
if early > 0 then
  return math.ceil(early / 1000)
end
redis.call('SET', KEYS[1], string.format('%.0f', due + takes), 'PX', math.ceil(window / 1000) + 2000)
return 0
