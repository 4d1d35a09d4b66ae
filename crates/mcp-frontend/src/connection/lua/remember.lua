-- Remembers that a call named a session. KEYS: the connection's record, its sessions. ARGV: the session, most sessions.
local rest = redis.call('PTTL', KEYS[1])
if rest < 0 then
  return
end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[2], rest)
