-- One turn of relaying an outbox (LOG.md §6).
--
-- KEYS: lease, outbox. ARGV: relay, lifetime of the lease in ms, entries at most (0 gives the lease back), bytes at
-- most; then the ids that were delivered. Answers 'busy', 'empty', or the next entries.
local call = redis.call
local lease, outbox = KEYS[1], KEYS[2]
local holder = call('GET', lease)
if holder and holder ~= ARGV[1] then
  -- A write that changes nothing: a replica refuses it.
  call('PERSIST', outbox)
  return 'busy'
end
-- Not denied when memory is full, and after it no other write is: relaying is what frees it.
call('PEXPIRE', lease, ARGV[2])
for id = 5, #ARGV do
  call('XDEL', outbox, ARGV[id])
end

local entries, size, from, limit, bytes = {}, 0, '-', ARGV[3] + 0, ARGV[4] + 0
while from and #entries < limit do
  -- A few at a time: each may have a mebibyte.
  local chunk = call('XRANGE', outbox, from, '+', 'COUNT', '8')
  from = #chunk == 8 and '(' .. chunk[8][1]
  for _, entry in ipairs(chunk) do
    size = size + #(entry[2][6] or '')
    if #entries == limit or (size > bytes and #entries > 0) then
      from = nil
      break
    end
    entries[#entries + 1] = entry
  end
end
if #entries == 0 then
  -- Whoever commits an entry from now on finds it free.
  call('DEL', lease)
  return 'empty'
end
call('SET', lease, ARGV[1], 'PX', ARGV[2])
return entries
