-- A daemon says how it is. KEYS: the directory. ARGV: its address, what it says, how long that is good for in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', now + ARGV[3], ARGV[2]))
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
