-- Keeps a connection. KEYS[1] its record. ARGV: what it is, time to live in ms. Answers when it was made and when it lapses.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'doc', ARGV[1], 'made', now)
redis.call('PEXPIREAT', KEYS[1], now + ARGV[2])
return { now, redis.call('PEXPIRETIME', KEYS[1]) }
