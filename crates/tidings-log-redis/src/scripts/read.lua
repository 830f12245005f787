-- One page of a topic, with the verdict on where it starts (LOG.md §4, §5).
--
-- KEYS: state, log, head, index.
-- ARGV: caller's ms, retention in ms, mode (oldest, newest, after), place, topic, events at most, bytes at most.
-- Answers verdict, head ('' when unknown), last id of the partition, whether the page reaches the end (1), entries.
local refusal = demoted(KEYS[1])
if refusal then return refusal end
local log, index, mode, topic = KEYS[2], KEYS[4], ARGV[3], ARGV[5]
local partition = survey(KEYS[1], log, ARGV[1], ARGV[2] + 0)
local place, events, bytes = ARGV[4] + 0, ARGV[6] + 0, ARGV[7] + 0
local head, last = call('GET', KEYS[3]) or '', format('%d', partition.last)

if mode == 'newest' then
  return { 'ok', head, last, 1, {} }
elseif mode == 'after' then
  local said = verdict(partition, KEYS[3], index, place)
  if said ~= 'ok' then
    return { said, head, last, 0, {} }
  end
end

local length = call('LLEN', index)
local start = below(index, length, math.max(place + 1, partition.floor))
local ids = call('LRANGE', index, start, start + events - 1)
local page, size = {}, 0
-- Whether the page has room for this entry; the first one always has.
local function take(entry)
  size = size + #(entry[2][10] or '')
  if size > bytes and #page > 0 then
    return false
  end
  page[#page + 1] = entry
  return true
end

-- A topic that is most of its partition is read by range, in chunks that bound what strangers'
-- events among them may weigh; a sparse one by its index.
local position = 1
if 2 * length >= call('XLEN', log) then
  while position <= #ids do
    local chunk = call('XRANGE', log, entry_of(ids[position] + 0), entry_of(ids[#ids] + 0), 'COUNT', '32')
    local before = position
    for _, entry in ipairs(chunk) do
      if entry[2][2] == topic then
        if not take(entry) then
          return { 'ok', head, last, 0, page }
        end
        position = position + 1
      end
    end
    if position == before then
      break
    end
  end
end
while position <= #ids do
  local id = entry_of(ids[position] + 0)
  local entry = call('XRANGE', log, id, id)[1]
  if entry and not take(entry) then
    return { 'ok', head, last, 0, page }
  end
  position = position + 1
end
return { 'ok', head, last, start + #ids >= length and 1 or 0, page }
