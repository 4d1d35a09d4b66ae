-- Corrects members of an index that are still as they were seen.
-- KEYS[1] the index. ARGV: member, score seen, new score or '' for a dead one, …
for i = 1, #ARGV, 3 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i])
      redis.call('PEXPIREAT', KEYS[1], math.max(tonumber(ARGV[i + 2]), redis.call('PEXPIRETIME', KEYS[1])))
    end
  end
end
return redis.call('ZCARD', KEYS[1])
