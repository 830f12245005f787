-- Verdicts on places in one partition (LOG.md §5).
--
-- KEYS: state, log; then per place: head, index. ARGV: caller's ms, retention in ms; then per place its id.
-- Answers the verdicts.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local partition, answers = survey(KEYS[1], KEYS[2], ARGV[1], ARGV[2] + 0), {}
for place = 3, #ARGV do
  local key = 2 * place - 3
  answers[place - 2] = verdict(partition, KEYS[key], KEYS[key + 1], ARGV[place] + 0)
end
return answers
