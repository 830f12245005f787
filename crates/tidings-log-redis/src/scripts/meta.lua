-- Writes what the deployment is fixed to, if nobody has, and answers what is written.
--
-- KEYS: meta. ARGV: layout version, partitions, retention in ms.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'partitions', ARGV[2], 'retention_ms', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'layout', 'partitions', 'retention_ms')
