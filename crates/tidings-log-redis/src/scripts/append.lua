-- Appends drafts to one partition, all or none (LOG.md §2, §4, §5, §6).
--
-- KEYS: state, log; then per draft: head, index, and the dedup key if it has one.
-- ARGV: writer, batch number (16 digits), start of sequence, caller's ms, retention in ms, cap (0 = none);
--       then per draft: topic, kind, attributes, data, dedup lifetime in ms (0 = none).
-- Answers 'n' (new) or 'r' (the answers of an earlier try), then per draft ' +<id>' (new) or
-- ' =<id>' (duplicate), ids in their integer form.
--
-- Numbers that go into a command are formatted here: Redis prints a Lua number with "%.17g", which
-- costs as much as a small command. Whatever is needed seldom is computed late.
local call, format, floor, sub = redis.call, string.format, math.floor, string.sub
local state, log = KEYS[1], KEYS[2]

local known = call('HMGET', state, 'last', 'born', ARGV[1])
-- A batch whose answer was lost is asked again under its number; a try that comes after its
-- successor was overtaken on a dying link, and nobody waits for it.
if known[3] then
  local number = sub(known[3], 1, 16)
  if number == ARGV[2] then
    return 'r' .. string.match(known[3], '^%d+ %d+(.*)$')
  elseif number > ARGV[2] then
    return redis.error_reply('STALE a later batch was stored')
  end
end

local time = call('TIME')
local now, retention = time[1] * 1000 + floor(time[2] / 1000), tonumber(ARGV[5])
local last, born = tonumber(known[1] or 0), tonumber(known[2] or now)

-- Ids rise and none lies before the log's birth; the clock may have gone back. A new millisecond
-- starts at a random place.
local ms, seq = floor(last / 4096), last % 4096
if ms < now or ms < born then
  ms, seq = math.max(now, born), ARGV[3] - 1
end
local ms_text = format('%d', ms)
local floor_ms = math.max(math.min(now, ARGV[4] + 0) - retention, 0)

-- Lifetimes are renewed by the first event of each quarter of a retention, so they are that much
-- longer than what is needed: one retention for an index, 24 for a head.
local quarter = retention / 4
local present = floor(ms / quarter)

local answers, stored, pops, key, top = {}, false, 0, 3, nil
for draft = 7, #ARGV, 5 do
  local head, index, dedup, duplicate = KEYS[key], KEYS[key + 1], nil, nil
  key = key + 2
  if ARGV[draft + 4] ~= '0' then
    dedup = KEYS[key]
    key = key + 1
    duplicate = call('GET', dedup)
  end
  if duplicate then
    answers[#answers + 1] = ' =' .. duplicate
  else
    seq = seq + 1
    if seq == 4096 then
      ms, seq = ms + 1, ARGV[3] + 0
      ms_text, present = format('%d', ms), floor(ms / quarter)
    end
    local id = format('%d', ms * 4096 + seq)
    -- The first write asks for memory, so a full Redis refuses the script before it wrote anything.
    local prev = call('SET', head, id, 'KEEPTTL', 'GET')
    local fresh = not prev or floor(prev / 4096 / quarter) ~= present
    if not prev then
      -- What a missing head proves: nothing for 24 retentions, or ever.
      local since = now - 24 * retention
      prev = born < since and format('-%d', since * 4096) or '0'
    end
    if stored then
      call('XADD', log, ms_text .. '-' .. seq, 't', ARGV[draft], 'k', ARGV[draft + 1], 'p', prev, 'a', ARGV[draft + 2], 'd', ARGV[draft + 3])
    else
      call('XADD', log, 'MINID', '=', format('%d', floor_ms), ms_text .. '-' .. seq, 't', ARGV[draft], 'k', ARGV[draft + 1], 'p', prev, 'a', ARGV[draft + 2], 'd', ARGV[draft + 3])
      stored = true
    end
    local length = call('RPUSH', index, id)
    if fresh then
      call('PEXPIRE', head, format('%d', 24 * retention + quarter + ms - now + 1))
      call('PEXPIRE', index, format('%d', retention + quarter + ms - now + 1))
    end
    if length % 32 == 0 and pops < 100 then
      -- At most 100: popping a million ids at once would block Redis for a second.
      local oldest, old = call('LRANGE', index, '0', '99'), 0
      while old < #oldest and tonumber(oldest[old + 1]) < floor_ms * 4096 do
        old = old + 1
      end
      if old > 0 then
        call('LPOP', index, old)
        pops = pops + old
      end
    end
    if dedup then
      call('SET', dedup, id, 'PX', ARGV[draft + 4])
    end
    answers[#answers + 1] = ' +' .. id
    top = id
  end
end

local answer = table.concat(answers)
if not stored then
  -- Nothing to remember: asked again, it finds the same keys. And nothing that a full Redis refuses.
  return 'n' .. answer
end
local attempt = ARGV[2] .. ' ' .. time[1] .. answer
if known[1] then
  call('HSET', state, 'last', top, ARGV[1], attempt)
else
  -- The first id ever: as long as its event is there, nothing was trimmed.
  local first = string.match(answer, '+(%d+)')
  call('HSET', state, 'last', top, 'first', first, 'born', format('%d', born), ARGV[1], attempt)
end
if ARGV[6] ~= '0' then
  call('XTRIM', log, 'MAXLEN', '=', ARGV[6])
end
return 'n' .. answer
