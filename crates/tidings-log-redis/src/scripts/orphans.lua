-- Reaps incarnations whose lease has ended, and answers what was lost with any (LOG.md §7).
--
-- KEYS: state, leases, tombstones, lost, owned. ARGV: how long a tombstone stands in ms, orphans at most; then
-- kinds. Answers '<incarnation>:<kind>:<id>' of each.
local call, format = redis.call, string.format
-- See beat.lua.
call('PERSIST', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local present = format('%d', now)
for _, incarnation in ipairs(call('ZRANGEBYSCORE', KEYS[2], '-inf', present)) do
  call('ZREM', KEYS[2], incarnation)
  call('ZADD', KEYS[3], format('%d', now + ARGV[1]), incarnation)
  call('ZADD', KEYS[4], '0', incarnation)
end
call('ZREMRANGEBYSCORE', KEYS[3], '-inf', present)

local orphans, limit = {}, ARGV[2] + 0
local function owned(prefix, most)
  return call('ZRANGEBYLEX', KEYS[5], '[' .. prefix .. ':', '(' .. prefix .. ';', 'LIMIT', '0', most)
end
for _, incarnation in ipairs(call('ZRANGE', KEYS[4], '0', '-1')) do
  if not owned(incarnation, '1')[1] then
    call('ZREM', KEYS[4], incarnation)
  end
  for kind = 3, #ARGV do
    if #orphans < limit then
      for _, orphan in ipairs(owned(incarnation .. ':' .. ARGV[kind], format('%d', limit - #orphans))) do
        orphans[#orphans + 1] = orphan
      end
    end
  end
end
return orphans
