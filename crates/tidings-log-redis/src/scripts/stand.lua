-- Which of these events the log does not have (any more), by their place in the list; and a write of
-- this connection that comes after them, since WAIT and WAITAOF speak of nothing else.
--
-- KEYS: state, log. ARGV: caller's ms, then the events as stream ids.
local missing = {}
for place = 2, #ARGV do
  if not redis.call('XRANGE', KEYS[2], ARGV[place], ARGV[place])[1] then
    missing[#missing + 1] = place - 1
  end
end
-- Where nothing stands there is nothing to wait for, and perhaps no log to write to.
if #missing < #ARGV - 1 then
  redis.call('HSET', KEYS[1], 'settled', ARGV[1])
end
return missing
