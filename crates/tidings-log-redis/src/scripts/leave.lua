-- Gives an incarnation's lease back (LOG.md §7).
--
-- KEYS: state, leases, tombstones, lost. ARGV: incarnation, how long it is remembered in ms.
local call, format = redis.call, string.format
-- See beat.lua.
call('PERSIST', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
call('ZREM', KEYS[2], ARGV[1])
call('ZADD', KEYS[3], format('%d', now + ARGV[2]), ARGV[1])
call('ZADD', KEYS[4], '0', ARGV[1])
return 1
