-- Takes or renews the lease on direct ingest; answers 1 when the owner holds it.
--
-- KEYS: lease. ARGV: owner, lifetime in ms, whether it may be taken (1) or only renewed (0).
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  -- Not denied when memory is full: the ingest must go on then, to free it.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
elseif holder or ARGV[3] == '0' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
