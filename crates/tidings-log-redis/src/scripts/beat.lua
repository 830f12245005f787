-- Takes or renews an incarnation's lease (LOG.md §7); answers 1 when it is held, 0 when it was reaped.
--
-- KEYS: state, leases, tombstones, owned. ARGV: incarnation, lifetime in ms.
local call, format = redis.call, string.format
-- A write that changes nothing: a replica refuses it, and after it none is denied when memory is full.
call('PERSIST', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local tomb = call('ZSCORE', KEYS[3], ARGV[1])
if tomb and now < tomb + 0 then
  return 0
end
-- What is left of one whose tombstone has gone is as lost as before.
if not call('ZSCORE', KEYS[2], ARGV[1])
  and call('ZRANGEBYLEX', KEYS[4], '[' .. ARGV[1] .. ':', '(' .. ARGV[1] .. ';', 'LIMIT', '0', '1')[1] then
  return 0
end
call('ZADD', KEYS[2], format('%d', now + ARGV[2]), ARGV[1])
return 1
