-- Takes entries out of the ingest stream, if the owner still holds the lease; answers 1, else 0.
--
-- KEYS: lease, ingest. ARGV: owner, group, then the entries' ids.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for entry = 3, #ARGV do
  redis.call('XACK', KEYS[2], ARGV[2], ARGV[entry])
  redis.call('XDEL', KEYS[2], ARGV[entry])
end
return 1
