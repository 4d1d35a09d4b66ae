-- Keeps an artifact of a session if that lives; the oldest go when there is no room.
-- KEYS[1] its record, KEYS[2] its artifacts. ARGV: birth, id, what it is, the artifact, most bytes, most artifacts.
if redis.call('HGET', KEYS[1], 'birth') ~= ARGV[1] then
  return 0
end
local kept = redis.call('HMGET', KEYS[2], 'order', 'bytes', 'd:' .. ARGV[2])
local order, bytes = kept[1] or '', tonumber(kept[2] or '0')
-- It is there: we are asked again because our answer was lost.
if not kept[3] then
  order = order .. ARGV[2] .. ' ' .. #ARGV[4] .. '\n'
  bytes = bytes + #ARGV[4]
  redis.call('HSET', KEYS[2], 'd:' .. ARGV[2], ARGV[3], 'b:' .. ARGV[2], ARGV[4])
  local _, count = string.gsub(order, '\n', '')
  while count > tonumber(ARGV[6]) or (bytes > tonumber(ARGV[5]) and count > 1) do
    local id, size, rest = string.match(order, '^(%S+) (%d+)\n(.*)$')
    redis.call('HDEL', KEYS[2], 'd:' .. id, 'b:' .. id)
    order, bytes, count = rest, bytes - size, count - 1
  end
  redis.call('HSET', KEYS[2], 'order', order, 'bytes', bytes)
  local ends = redis.call('PEXPIRETIME', KEYS[1])
  if ends >= 0 then
    redis.call('PEXPIREAT', KEYS[2], ends)
  end
end
return 1
