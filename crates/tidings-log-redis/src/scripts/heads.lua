-- The heads of topics of one partition, and its last id.
--
-- KEYS: state; then the topics' heads. Answers the last id, then the heads, nothing being ''.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local answers = { call('HGET', KEYS[1], 'last') or '0' }
for topic = 2, #KEYS do
  answers[topic] = call('GET', KEYS[topic]) or ''
end
return answers
