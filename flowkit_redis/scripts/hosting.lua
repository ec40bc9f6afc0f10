-- What a home does with its guests (see homes.lua).

-- Give the guest a place, or go on giving it one.
local function admit(id, guest, owner, ms)
  guests[id] = guest
  guest[OWNER] = owner
  lease_until(id, guest, now + ms)
end

local function without_place(id, guest)
  unoffer(id, guest)
  unhold(id, guest)
  redis.call('ZREM', prefix .. 'due:' .. guest[LANE], member(id, guest))
  guest[OWNER], guest[DUE] = false, false
end

local function wake_if_any(lane)
  if redis.call('EXISTS', prefix .. 'q:' .. lane) == 1 then wake(lane) end
end

-- Let the guest wait for a place.
local function stand(id, guest, since)
  guests[id] = guest
  without_place(id, guest)
  offer(id, guest, since)
  wake_if_any(guest[LANE])
end

local function dismiss(id, guest)
  without_place(id, guest)
  guests[id], changed[id] = false, nil
  redis.call('HDEL', prefix .. 'gu', id)
  settle(guest)
  wake_if_any(guest[LANE])
end
