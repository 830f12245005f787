-- What a tail asks about its own place in a partition (LOG.md §8).
--
-- KEYS: state, log. ARGV: caller's ms, retention in ms, place.
-- Answers a word and two ids: 'ok'; 'skipped', and the place before the first event that is still to be had; or
-- 'lost' (the place itself is gone from a log that reaches further back), the first id of the log, and the least
-- that this log may have.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local log, place = KEYS[2], ARGV[3] + 0
local partition = survey(KEYS[1], log, ARGV[1], ARGV[2] + 0)

local function lost()
  return { 'lost', format('%d', partition.first or partition.last + 1), format('%d', partition.least) }
end

if place == partition.last then
  return { 'ok', '0', '0' }
elseif place > partition.last then
  return lost()
end
local entry, retained = entry_of(place), partition.floor - 1
local here = place > 0 and call('XRANGE', log, entry, entry)[1]
if not here and partition.first and place >= partition.first then
  return lost()
elseif not here and place > 0 and place < partition.least then
  return lost()
elseif here or (place == 0 and partition.whole) or place + 1 == partition.first then
  -- All that came after the place is there; is some of it past the retention?
  local after = call('XRANGE', log, '(' .. entry, '+', 'COUNT', '1')[1]
  if after and integer(after[1]) < partition.by_time then
    return { 'skipped', format('%d', retained), '0' }
  end
  return { 'ok', '0', '0' }
end
return { 'skipped', format('%d', retained), '0' }
