-- Read a run and a page of its journal. KEYS: own, r, j, i.
-- ARGV: now, id, after, at most so many entries, 1 for all or 0 for entries alone.
-- Answer: now, header, input, result, entries, a page of the inbox; nothing if it is not there.
local ENOUGH_BYTES = 4194304
local id, after, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local whole = ARGV[5] == '1'
local run = stored(id)
if not run then return false end
local journal = prefix .. 'j:' .. id
local last = math.min(after + limit, run[LENGTH])
local entries, bytes = {}, 0
for first = after + 1, last, 50 do
  local page = redis.call('LRANGE', journal, first, math.min(first + 49, last))
  for n = 1, #page do
    entries[#entries + 1] = page[n]
    bytes = bytes + #page[n]
  end
  if bytes > ENOUGH_BYTES then break end  -- the caller asks for the rest
end
local inbox = whole and run[INBOX] > 0 and page_of_inbox(id, '0')
local input = whole and redis.call('LINDEX', journal, 0) or ''
local result = whole and run[RESULT] and redis.call('LINDEX', journal, -1)
return { now, { id, unpack(run, 1, 25) }, input, result, entries, inbox }
