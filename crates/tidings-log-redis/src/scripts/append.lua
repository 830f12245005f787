-- Appends drafts to one or several partitions, of each partition all or none; after appending.lua.
--
-- KEYS: for each partition state, log; then per draft head, index, and the dedup key if it has one.
-- ARGV: writer, batch number (16 digits), start of sequence, caller's ms, retention in ms, cap (0 = none);
--       then for each partition how many drafts; then per draft topic, kind, attributes, data, dedup
--       lifetime in ms (0 = none).
-- Answers for each partition, with '|' between them: 'n' (new) or 'r' (the answers of an earlier
-- try), then per draft ' +<id>' (new) or ' =<id>' (duplicate), ids in their integer form; or 'e' and
-- an error that is this partition's own.
local writer, number = ARGV[1], ARGV[2]

-- One partition's drafts, from these places of KEYS and ARGV on.
local function append(key, first, drafts)
  local state, log = KEYS[key], KEYS[key + 1]
  local known = call('HMGET', state, 'last', 'born', writer)
  -- A batch whose answer was lost is asked again under its number; a try that comes after its
  -- successor was overtaken on a dying link, and nobody waits for it.
  if known[3] then
    local stored = sub(known[3], 1, 16)
    if stored == number then
      return 'r' .. string.match(known[3], '^%d+ %d+(.*)$')
    elseif stored > number then
      return 'eSTALE a later batch was stored'
    end
  end

  local born = tonumber(known[2] or now)
  local answer, top = store(log, key + 2, first, drafts, tonumber(known[1] or 0), born)
  if not top then
    -- Nothing to remember: asked again, it finds the same keys. And nothing that a full Redis refuses.
    return 'n' .. answer
  end
  local attempt = number .. ' ' .. time[1] .. answer
  if known[1] then
    call('HSET', state, 'last', top, writer, attempt)
  else
    -- The first id ever: as long as its event is there, nothing was trimmed.
    local first_id = string.match(answer, '+(%d+)')
    call('HSET', state, 'last', top, 'first', first_id, 'born', format('%d', born), writer, attempt)
  end
  if cap ~= '0' then
    call('XTRIM', log, 'MAXLEN', '=', cap)
  end
  return 'n' .. answer
end

local groups, key, argument = {}, 1, 7
while argument <= #ARGV do
  local drafts = ARGV[argument] + 0
  local fine, answer = pcall(append, key, argument + 1, drafts)
  if not fine then
    -- A string or a table, with or without a place before the code, as the server's version has it.
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    for _, code in ipairs({ 'OOM', 'READONLY', 'NOREPLICAS', 'MISCONF' }) do
      local at = string.find(text, code, 1, true)
      if at then
        -- What the whole server refuses it refuses from the first write on: nothing was stored.
        return redis.error_reply(sub(text, at))
      end
    end
    answer = 'e' .. string.gsub(text, '|', ' ')
  end
  groups[#groups + 1] = answer
  local keys = 2
  for draft = argument + 1, argument + 5 * drafts, 5 do
    keys = keys + (ARGV[draft + 4] == '0' and 2 or 3)
  end
  key, argument = key + keys, argument + 1 + 5 * drafts
end
return table.concat(groups, '|')
