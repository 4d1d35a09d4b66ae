-- Removes the checkpoint of a session that has lapsed. Answers whether there is none now.
-- KEYS[1] the session's record, KEYS[2] its checkpoint.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('DEL', KEYS[2])
return 1
