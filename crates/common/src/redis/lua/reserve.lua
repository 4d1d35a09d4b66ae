-- Takes a place in an index if there is one: a member that is there has it already.
-- KEYS[1] the index. ARGV: member, most members, how long the place is kept in ms, how long the index is in ms.
-- Answers {'added' | 'known' | 'full', the member's score}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return { 'full', '0' }
end
-- Later than it was: whoever has found a member of that score dead does not remove this one.
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[3], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], math.max(now + ARGV[4], redis.call('PEXPIRETIME', KEYS[1])))
return { known and 'known' or 'added', redis.call('ZSCORE', KEYS[1], ARGV[1]) }
