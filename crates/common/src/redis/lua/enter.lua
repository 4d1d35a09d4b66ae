-- Enters a member of an index, which lives as long as it. Answers whether it is new there.
-- KEYS[1] the index. ARGV: member, until when its record lives.
local added = redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], math.max(tonumber(ARGV[2]), redis.call('PEXPIRETIME', KEYS[1])))
return added
