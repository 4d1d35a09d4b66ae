-- What daemons have said that is still good; the rest is removed. KEYS: the directory.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all, good = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local border = string.find(all[i + 1], ' ', 1, true)
  if tonumber(string.sub(all[i + 1], 1, border - 1)) > now then
    good[#good + 1] = string.sub(all[i + 1], border + 1)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return good
