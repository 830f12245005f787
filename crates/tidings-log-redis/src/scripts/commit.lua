-- Changes records together with the events of their partition, all or nothing (LOG.md §6, §7); after
-- appending.lua and flashing.lua.
--
-- KEYS: state, log, result, outbox, flash, leases, owned, owners; then records (a hash: v version, d document, i:<index> its rank
--       there), each followed by its deadlines (a hash: names and times), and sorted sets of all deadlines of a kind, each
--       followed by that of its indexes ('<index>:<rank>:<id>', all of one score), which the arguments name by their number;
--       then the drafts'. Ranks have sixteen digits, so that they sort as text.
-- ARGV: the commit's id, how long it is remembered in ms, start of sequence, caller's ms, retention in ms,
--       cap (0 = none), what a record outlives its deadlines by in ms, the answer, the number of the
--       drafts' first key, the incarnation whose commit it is or '', the owner whose orphan it adopts or '',
--       that record's name or '', and how many follow of
--         fired deadlines: deadlines, kind, member, name, time
--         expected versions: record, version
--         documents: record, deadlines, document, lifetime in ms or '', name, owner or ''
--         removed records: record, deadlines, kind, id, name
--         deadlines to set: record, deadlines, kind, member, name, time or '' (to clear)
--         ranks to set: record, kind, id, index, rank or '' (to take it out)
--         outbox entries: the entry
--         flash events: topic, kind, attributes, data;
--       then all of these, then the drafts.
-- Answers a word, and 'stored': version and ids; 'known': what the first try stored; 'duplicate': which draft,
-- and the first one's id; 'gone', 'fenced', 'conflict'. A record's name is '<kind>:<id>'.
local state, log, result = KEYS[1], KEYS[2], call('GET', KEYS[3])
local leases, owned, owners = KEYS[6], KEYS[7], KEYS[8]

-- An answer that changes nothing, after a write that changes nothing: a replica refuses it.
local function unchanged(...)
  call('PERSIST', state)
  return { ... }
end

if result then
  return unchanged('known', result)
end
local incarnation, lost = ARGV[10], ARGV[11]
local fires, expects = 21, 21 + 5 * ARGV[13]
local puts = expects + 2 * ARGV[14]
local removes = puts + 6 * ARGV[15]
local deadlines = removes + 5 * ARGV[16]
local ranks = deadlines + 6 * ARGV[17]
local outbox = ranks + 5 * ARGV[18]
local flashes = outbox + ARGV[19]
local drafts = flashes + 4 * ARGV[20]

-- First all that can stand against it: from the first write on nothing does.
for at = fires, expects - 1, 5 do
  local standing = call('ZSCORE', KEYS[ARGV[at + 1] + 0], ARGV[at + 2])
  if not standing or standing + 0 ~= ARGV[at + 4] + 0 then
    return unchanged('gone')
  end
end
if lost ~= '' and (call('HGET', owners, ARGV[12]) ~= lost or call('ZSCORE', leases, lost)) then
  return unchanged('gone')
end
if incarnation ~= '' and not call('ZSCORE', leases, incarnation) then
  return unchanged('fenced')
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
-- Makes a record somebody's, or nobody's ('').
local any = call('EXISTS', owners) == 1
local function own(name, owner)
  local before = any and call('HGET', owners, name)
  if before == owner then
    return
  elseif before then
    call('ZREM', owned, before .. ':' .. name)
  end
  if owner ~= '' then
    any = true
    call('HSET', owners, name, owner)
    call('ZADD', owned, '0', owner .. ':' .. name)
  elseif before then
    call('HDEL', owners, name)
  end
end
if lost ~= '' then
  own(ARGV[12], '')
end
for at = puts, removes - 1, 6 do
  local record = KEYS[ARGV[at] + 0]
  own(ARGV[at + 4], ARGV[at + 5])
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
for at = removes, deadlines - 1, 5 do
  own(ARGV[at + 4], '')
  for _, field in ipairs(call('HKEYS', KEYS[ARGV[at] + 0])) do
    if sub(field, 1, 2) == 'i:' then
      local rank = call('HGET', KEYS[ARGV[at] + 0], field)
      call('ZREM', KEYS[ARGV[at + 2] + 1], sub(field, 3) .. ':' .. rank .. ':' .. ARGV[at + 3])
    end
  end
  for _, name in ipairs(call('HKEYS', KEYS[ARGV[at + 1] + 0])) do
    call('ZREM', KEYS[ARGV[at + 2] + 0], name .. ':' .. ARGV[at + 3])
  end
  call('DEL', KEYS[ARGV[at] + 0], KEYS[ARGV[at + 1] + 0])
end
for at = deadlines, ranks - 1, 6 do
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
for at = ranks, outbox - 1, 5 do
  local record, indexes, id, index, rank = KEYS[ARGV[at] + 0], KEYS[ARGV[at + 1] + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local there = call('HMGET', record, 'v', 'i:' .. index)
  if there[1] and there[2] ~= rank then
    if there[2] then
      call('ZREM', indexes, index .. ':' .. there[2] .. ':' .. id)
    end
    if rank ~= '' then
      call('ZADD', indexes, '0', index .. ':' .. rank .. ':' .. id)
      call('HSET', record, 'i:' .. index, rank)
    elseif there[2] then
      call('HDEL', record, 'i:' .. index)
    end
  end
end
for at = outbox, flashes - 1 do
  call('XADD', KEYS[4], '*', 'c', ARGV[1], 'i', format('%d', at - outbox), 'b', ARGV[at])
end
if flashes < drafts then
  flash(KEYS[5], flashes, ARGV[20])
end
call('SET', KEYS[3], result .. '\n' .. ARGV[8], 'PX', ARGV[2])
return { 'stored', result }
