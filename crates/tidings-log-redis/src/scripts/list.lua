-- A page of an index, after common.lua. Where a record stands is a field of its own (see commit.lua); what stands in the
-- index without it was removed or has ended, and is cleared away here.
--
-- KEYS: state, the kind's indexes. ARGV: what the names of the kind's records begin with (they stand where the state does),
-- the index, the place to go on after ('<rank>:<id>') or '', places to look at and bytes at most.
-- Answers the place to go on after next or '', then rank, id, version and document of each.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local index, limit, left = ARGV[2] .. ':', ARGV[4] + 0, ARGV[5] + 0
local from = ARGV[3] == '' and '[' .. index or '(' .. index .. ARGV[3]
local members = call('ZRANGEBYLEX', KEYS[2], from, '(' .. ARGV[2] .. ';', 'LIMIT', '0', format('%d', limit + 1))
local answers = { '' }
for at, member in ipairs(members) do
  if at > limit or left <= 0 then
    answers[1] = string.sub(members[at - 1], #index + 1)
    break
  end
  local rank, id = string.sub(member, #index + 1, #index + 16), string.sub(member, #index + 18)
  local found = call('HMGET', ARGV[1] .. id, 'v', 'd', 'i:' .. ARGV[2])
  if found[1] and found[3] == rank then
    local last = #answers
    answers[last + 1], answers[last + 2], answers[last + 3], answers[last + 4] = rank, id, found[1], found[2]
    left = left - #found[2]
  else
    call('ZREM', KEYS[2], member)
  end
end
return answers
