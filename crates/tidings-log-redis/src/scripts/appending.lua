-- How drafts are stored (LOG.md §2, §4, §5, §6); put before the scripts that do it, which have in
-- common ARGV[3] start of sequence, [4] caller's ms, [5] retention in ms, [6] cap (0 = none).
--
-- Numbers that go into a command are formatted here: Redis prints a Lua number with "%.17g", which
-- costs as much as a small command. Whatever is needed seldom is computed late.
local call, format, floor, sub = redis.call, string.format, math.floor, string.sub
local start, cap = ARGV[3] + 0, ARGV[6]
local time = call('TIME')
local now, retention = time[1] * 1000 + floor(time[2] / 1000), tonumber(ARGV[5])
local floor_ms = math.max(math.min(now, ARGV[4] + 0) - retention, 0)
local floor_text = format('%d', floor_ms)
-- Lifetimes are renewed by the first event of each quarter of a retention, so they are that much
-- longer than what is needed: one retention for an index, 24 for a head.
local quarter = retention / 4
local pops = 0

-- Stores so many drafts of one partition, whose last id and birth are given. Their arguments stand
-- from ARGV[draft] on: topic, kind, attributes, data, dedup lifetime in ms (0 = none); their keys
-- from KEYS[key] on: head, index, and the dedup key if there is one.
-- Returns ' +<id>' (new) or ' =<id>' (duplicate) for each, ids in their integer form, and the last
-- one's id if any was stored. Its first write asks for memory, so a full Redis refuses the script
-- before it wrote anything.
local function store(log, key, draft, drafts, last, born)
  -- Ids rise and none lies before the log's birth; the clock may have gone back. A new millisecond
  -- starts at a random place.
  local ms, seq = floor(last / 4096), last % 4096
  if ms < now or ms < born then
    ms, seq = math.max(now, born), start - 1
  end
  local ms_text, present = format('%d', ms), floor(ms / quarter)

  local answers, top = {}, nil
  for draft = draft, draft + 5 * drafts - 1, 5 do
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
        ms, seq = ms + 1, start
        ms_text, present = format('%d', ms), floor(ms / quarter)
      end
      local id = format('%d', ms * 4096 + seq)
      local prev = call('SET', head, id, 'KEEPTTL', 'GET')
      local fresh = not prev or floor(prev / 4096 / quarter) ~= present
      if not prev then
        -- What a missing head proves: nothing for 24 retentions, or ever.
        local since = now - 24 * retention
        prev = born < since and format('-%d', since * 4096) or '0'
      end
      if top then
        call('XADD', log, ms_text .. '-' .. seq, 't', ARGV[draft], 'k', ARGV[draft + 1], 'p', prev, 'a', ARGV[draft + 2], 'd', ARGV[draft + 3])
      else
        call('XADD', log, 'MINID', '=', floor_text, ms_text .. '-' .. seq, 't', ARGV[draft], 'k', ARGV[draft + 1], 'p', prev, 'a', ARGV[draft + 2], 'd', ARGV[draft + 3])
      end
      local length = call('RPUSH', index, id)
      if fresh then
        call('PEXPIRE', head, format('%d', 24 * retention + quarter + ms - now + 1))
        call('PEXPIRE', index, format('%d', retention + quarter + ms - now + 1))
      end
      if length % 32 == 0 and pops < 100 and call('LINDEX', index, '0') + 0 < floor_ms * 4096 then
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
  return table.concat(answers), top
end

