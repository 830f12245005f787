-- Records of one partition. KEYS: state; then the records. Answers version and document of each, or '' and ''.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local answers = {}
for record = 2, #KEYS do
  local found = call('HMGET', KEYS[record], 'v', 'd')
  answers[2 * record - 3] = found[1] or ''
  answers[2 * record - 2] = found[2] or ''
end
return answers
