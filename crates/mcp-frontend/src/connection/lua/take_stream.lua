-- Takes the event stream of a connection. KEYS[1] its record. Answers the stream's number, or nothing.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
return redis.call('HINCRBY', KEYS[1], 'streams', 1)
