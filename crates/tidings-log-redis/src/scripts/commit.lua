-- Changes records together with the events of their partition, all or nothing (LOG.md §6); after
-- appending.lua.
--
-- KEYS: state, log, result, outbox; then records (a hash: v version, d document), each followed by its
--       deadlines (a hash: names and times), and sorted sets of all deadlines of a kind, which the
--       arguments name by their number; then the drafts'.
-- ARGV: the commit's id, how long it is remembered in ms, start of sequence, caller's ms, retention in ms,
--       cap (0 = none), what a record outlives its deadlines by in ms, the answer, the number of the
--       drafts' first key, and how many follow of
--         fired deadlines: deadlines, kind, member, name, time
--         expected versions: record, version
--         documents: record, deadlines, document, lifetime in ms or ''
--         removed records: record, deadlines, kind, id
--         deadlines to set: record, deadlines, kind, member, name, time or '' (to clear)
--         outbox entries: the entry;
--       then all of these, then the drafts.
-- Answers a word, and 'stored': version and ids; 'known': what the first try stored; 'duplicate': which draft,
-- and the first one's id; 'gone', 'conflict'.
local state, log, result = KEYS[1], KEYS[2], call('GET', KEYS[3])

-- An answer that changes nothing, after a write that changes nothing: a replica refuses it.
local function unchanged(...)
  call('PERSIST', state)
  return { ... }
end

if result then
  return unchanged('known', result)
end
local fires, expects = 16, 16 + 5 * ARGV[10]
local puts = expects + 2 * ARGV[11]
local removes = puts + 4 * ARGV[12]
local deadlines = removes + 4 * ARGV[13]
local outbox = deadlines + 6 * ARGV[14]
local drafts = outbox + ARGV[15]

-- First all that can stand against it: from the first write on nothing does.
for at = fires, expects - 1, 5 do
  local standing = call('ZSCORE', KEYS[ARGV[at + 1] + 0], ARGV[at + 2])
  if not standing or standing + 0 ~= ARGV[at + 4] + 0 then
    return unchanged('gone')
  end
end
for at = expects, puts - 1, 2 do
  if (call('HGET', KEYS[ARGV[at] + 0], 'v') or '0') ~= ARGV[at + 1] then
    return unchanged('conflict')
  end
end
local key = ARGV[9] + 0
for draft = drafts, #ARGV, 5 do
  if ARGV[draft + 4] ~= '0' then
    local first = call('GET', KEYS[key + 2])
    if first then
      return unchanged('duplicate', (draft - drafts) / 5, first)
    end
    key = key + 1
  end
  key = key + 2
end

local known = call('HMGET', state, 'last', 'born', 'ver')
local outlives = ARGV[7] + 0
-- Never again, even if the partition lost its end and its clock went back.
local version = format('%d', math.max((known[3] or 0) + 1, now * 4096 + start))

-- The events or, where there are none, the version: either asks for memory.
if drafts > #ARGV then
  call('HSET', state, 'ver', version)
  result = version
else
  local born = tonumber(known[2] or now)
  local ids, top = store(log, ARGV[9] + 0, drafts, (#ARGV + 1 - drafts) / 5, tonumber(known[1] or 0), born)
  if known[1] then
    call('HSET', state, 'last', top, 'ver', version)
  else
    local first = string.match(ids, '+(%d+)')
    call('HSET', state, 'last', top, 'first', first, 'born', format('%d', born), 'ver', version)
  end
  if cap ~= '0' then
    call('XTRIM', log, 'MAXLEN', '=', cap)
  end
  result = version .. ids
end

for at = fires, expects - 1, 5 do
  call('ZREM', KEYS[ARGV[at + 1] + 0], ARGV[at + 2])
  call('HDEL', KEYS[ARGV[at] + 0], ARGV[at + 3])
end
for at = puts, removes - 1, 4 do
  local record = KEYS[ARGV[at] + 0]
  call('HSET', record, 'v', version, 'd', ARGV[at + 2])
  if ARGV[at + 3] == '' then
    call('PERSIST', record)
  else
    local ends = now + ARGV[at + 3]
    for _, standing in ipairs(call('HVALS', KEYS[ARGV[at + 1] + 0])) do
      ends = math.max(ends, standing + outlives)
    end
    call('PEXPIREAT', record, format('%d', ends))
  end
end
for at = removes, deadlines - 1, 4 do
  for _, name in ipairs(call('HKEYS', KEYS[ARGV[at + 1] + 0])) do
    call('ZREM', KEYS[ARGV[at + 2] + 0], name .. ':' .. ARGV[at + 3])
  end
  call('DEL', KEYS[ARGV[at] + 0], KEYS[ARGV[at + 1] + 0])
end
for at = deadlines, outbox - 1, 6 do
  local record, standing, kind = KEYS[ARGV[at] + 0], KEYS[ARGV[at + 1] + 0], KEYS[ARGV[at + 2] + 0]
  local member, name, passes = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  if passes == '' then
    call('ZREM', kind, member)
    call('HDEL', standing, name)
  else
    call('ZADD', kind, passes, member)
    call('HSET', standing, name, passes)
    local rest = call('PTTL', record)
    if rest >= 0 and now + rest < passes + outlives then
      call('PEXPIREAT', record, format('%d', passes + outlives))
    end
  end
end
for at = outbox, drafts - 1 do
  call('XADD', KEYS[4], '*', 'c', ARGV[1], 'i', format('%d', at - outbox), 'b', ARGV[at])
end
call('SET', KEYS[3], result .. '\n' .. ARGV[8], 'PX', ARGV[2])
return { 'stored', result }
