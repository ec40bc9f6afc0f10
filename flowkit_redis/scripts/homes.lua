-- Limits over shards: the places of a key are counted in one shard, its home, whichever shards its runs lie in.
-- At home a guest stands for each run of another shard that wants a place or has one: a header like a run's, in the hash
-- `gu`, whose lease is the place. A run asks for a place, and tells that its lease has ended, by a letter in the outbox.
-- Whoever was handed a guest asks the run's own shard for the run, so a guest whose run wants nothing does no harm.
local ASK_AGAIN = 60000  -- after so long, then ever less often: the home may have lost the guest with its server
local GUEST, ASKED = 'G', UPDATED  -- its PLACE; when its run last asked, by the clock of the run's shard

local guests, left, asks = {}, {}, {}

local function guest_of(id)
  if guests[id] == nil then
    local raw = redis.call('HGET', prefix .. 'gu', id)
    guests[id] = raw and cmsgpack.unpack(raw) or false
  end
  return guests[id]
end

-- What a home is told of a run: its number, then the arguments of host.lua.
local function told_home(what, id, run, owner, ms)
  local words = { run[HOME], what, id, run[LANE], run[PRIORITY], run[SEQ], run[PLACES], run[LIMIT], run[SINCE] or now,
    server_us, owner or '', ms }
  for n = 1, #words do
    if type(words[n]) == 'number' then words[n] = string.format('%.0f', words[n]) end
  end
  return words
end

-- One letter for all that has happened to a run in this script (see outbox.py for its form).
local function write_home(id, run)
  if not (left[id] or asks[id]) then return end
  local words = told_home('turn', id, run, left[id], asks[id] and 1 or 0)
  table.insert(words, 1, 'place')
  table.insert(words, 2, string.format('%.0f', server_us))
  table.insert(words, 3, ARGV[1])
  for n = 1, #words do words[n] = #words[n] .. ':' .. words[n] end
  redis.call('RPUSH', prefix .. 'out', table.concat(words))
end
