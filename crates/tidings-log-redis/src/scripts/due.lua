-- The earliest deadlines of each kind that have passed.
--
-- KEYS: state; then the kinds' deadlines. ARGV: how many at most. Answers the time in ms, then members and times
-- of each kind.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local time = call('TIME')
local now = format('%d', time[1] * 1000 + floor(time[2] / 1000))
local answers = { now }
for kind = 2, #KEYS do
  answers[kind] = call('ZRANGEBYSCORE', KEYS[kind], '-inf', now, 'WITHSCORES', 'LIMIT', '0', ARGV[1])
end
return answers
