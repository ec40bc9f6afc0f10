-- What has become of runs of other shards, whose places are counted here (see homes.lua).
-- ARGV: now, then for each: what, id, lane, priority, number, places, limit, since, when, owner, ms.
-- turn: the lease of that owner has ended, if it is named; ms is 1 if the run wants a place again, or 0.
-- hold: the owner has a lease, and so a place, for so long, whether there is room or not.
-- take: the owner asks for a place for this very run.
-- Answer: for each 1 if the owner has a place now, or 0.
local function newcomer(words)
  local guest = {}
  for n = 1, HOME do guest[n] = false end
  guest[PLACE], guest[LANE], guest[LIMIT] = GUEST, words[3], words[7]
  guest[PRIORITY], guest[SEQ], guest[PLACES] = tonumber(words[4]), tonumber(words[5]), tonumber(words[6])
  guest[ASKED] = 0
  return guest
end

local function turn(id, guest, words)
  local since, stamp, owner, wants = tonumber(words[8]), tonumber(words[9]), words[10], words[11] == '1'
  if guest and owner ~= '' and guest[OWNER] == owner then
    if wants or guest[ASKED] > stamp then
      guest[ASKED] = 0  -- whoever is handed it now finds out: a clock that was set back must not keep it here for ever
      stand(id, guest, since)
    else
      dismiss(id, guest)
    end
  elseif wants and not guest then
    guest = newcomer(words)
    stand(id, guest, since)
  end
  if wants then
    guest[ASKED] = math.max(guest[ASKED], stamp)
    changed[id] = guest
  end
  return false
end

local function hold(id, guest, words)
  admit(id, guest or newcomer(words), words[10], tonumber(words[11]))
  return true
end

local function take_place(id, guest, words)
  guest = guest or newcomer(words)
  local held = guest[OWNER] and guest[DUE] > now
  if not held and has_room(guest) then
    admit(id, guest, words[10], tonumber(words[11]))
    held = true
  end
  return held and guest[OWNER] == words[10]
end

local doing = { turn = turn, hold = hold, take = take_place }
local answer = {}
for at = 2, #ARGV, 11 do
  local words = { unpack(ARGV, at, at + 10) }
  answer[#answer + 1] = doing[words[1]](words[2], guest_of(words[2]), words) and 1 or 0
end
save()
return answer
