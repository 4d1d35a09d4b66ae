-- How many members an index has, and which of them may be dead: their time has passed.
-- KEYS[1] the index. ARGV: most suspects. Answers {count, {member, score, …}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local suspects = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
return { redis.call('ZCARD', KEYS[1]), suspects }
