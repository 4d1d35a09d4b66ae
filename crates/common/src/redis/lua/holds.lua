-- Whether sessions hold the leases that they should.
-- KEYS their records, ARGV the ids of the leases. Answers for each how long the session lives on in ms, -1 for ever, -2 if it does
-- not hold that lease.
local rests = {}
for place, record in ipairs(KEYS) do
  rests[place] = redis.call('HGET', record, 'held') == ARGV[place] and redis.call('PTTL', record) or -2
end
return rests
