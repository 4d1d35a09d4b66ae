-- What artifacts a living session has, oldest first. KEYS[1] its record, KEYS[2] its artifacts. ARGV: birth.
local all = {}
if redis.call('HGET', KEYS[1], 'birth') ~= ARGV[1] then
  return all
end
for id in string.gmatch(redis.call('HGET', KEYS[2], 'order') or '', '(%S+) %d+\n') do
  all[#all + 1] = redis.call('HGET', KEYS[2], 'd:' .. id)
end
return all
