-- Lease runs of some lanes. ARGV: now, token, worker, lease in ms, limit, lanes. KEYS end with five of each lane (keys.py).
-- Answer: now, when the next one comes due (or nil), the leases (id, fence, crashes, lane), what lies in the outbox, and
-- the guests that were given a place (id, lane): their runs are to be claimed where they lie.
local MOVES = 20  -- timers and leases of a lane that one call puts in line

local token, worker, lease_ms, limit = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local number_of_lanes = #ARGV - 5
local LANE_KEYS, QUEUE, TIMERS, HINTS = 5, 1, 2, 5  -- so many has a lane, and where these stand among them
local AT_ONCE = 500  -- Lua passes arguments on its stack

local leases, passes = {}, {}
local function grant(id, run)
  leases[#leases + 1] = { id, run[FENCE], run[CRASHES], run[LANE] }
end

local function key_of(n, which) return KEYS[#KEYS - LANE_KEYS * (number_of_lanes - n + 1) + which] end

local function next_due(n)
  local first = redis.call('ZRANGE', key_of(n, TIMERS), 0, 0, 'WITHSCORES')
  return tonumber(first[2])
end

-- Put what has come due in line; the runs themselves change only when they are taken.
local function offer_due(n)
  local key = key_of(n, TIMERS)
  local names = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, MOVES)
  for n = 1, #names do
    redis.call('ZREM', key, names[n])
    local id = id_of(names[n])
    local run = find(id) or guest_of(id)
    if run then offer(id, run, run[SINCE] or run[DUE]) end
  end
end

local function head(n)
  local first = redis.call('ZRANGE', key_of(n, QUEUE), 0, 0, 'WITHSCORES')
  return first[1] and { name = first[1], rank = tonumber(first[2]) }
end

local function before(a, b)
  return a.rank < b.rank or (a.rank == b.rank and a.name < b.name)
end

local heads = {}
local function best()
  local found
  for n = 1, number_of_lanes do
    local h = heads[n]
    if h and (not found or before(h, heads[found])) then found = n end
  end
  return found
end

local function take_best()
  local ids = {}
  for n = 1, number_of_lanes do heads[n] = head(n) or false end
  for _ = 1, limit * 2 do  -- twice: a name without a run is passed over
    local at = best()
    if not at or #ids >= limit then break end
    local name = heads[at].name
    local id = id_of(name)
    local run, guest = find(id), nil
    if run then
      take(id, run, token, worker, lease_ms)
      grant(id, run)
      ids[#ids + 1] = id
    else
      guest = guest_of(id)
    end
    if guest then
      admit(id, guest, token, lease_ms)
      passes[#passes + 1] = { id, guest[LANE] }
      ids[#ids + 1] = id
    elseif not run then
      redis.call('ZREM', key_of(at, QUEUE), name)
    end
    heads[at] = head(at) or false
  end
  if ids[1] then remember(token, lease_ms, ids) end
end

-- When to look again; puts in line what is due by now, if it is to be taken.
local function look_at_timers(offers)
  local soonest
  for n = 1, number_of_lanes do
    local due = next_due(n)
    if offers and due and due <= now then
      offer_due(n)
      due = next_due(n)
    end
    if due and (not soonest or due < soonest) then soonest = due end
  end
  return soonest
end

local function forget_hints()
  local idle = {}
  for n = 1, number_of_lanes do
    if not heads[n] then idle[#idle + 1] = key_of(n, HINTS) end
  end
  for first = 1, #idle, AT_ONCE do  -- nothing is there to be woken for
    redis.call('DEL', unpack(idle, first, math.min(first + AT_ONCE - 1, #idle)))
  end
end

local granted = redis.call('LRANGE', prefix .. 'ct:' .. token, 0, 999)
for n = 1, #granted do
  local id = granted[n]
  local run, guest = find(id), guest_of(id)
  if run and run[OWNER] == token then grant(id, run) end
  if guest and guest[OWNER] == token and guest[DUE] > now then passes[#passes + 1] = { id, guest[LANE] } end
end
local again = leases[1] or passes[1]
local soonest = look_at_timers(not again)
if not again then
  take_best()
  forget_hints()
  if leases[1] or passes[1] then soonest = math.min(soonest or math.huge, now + lease_ms) end
end
save()
return { now, soonest or false, leases, redis.call('LLEN', prefix .. 'out'), passes }
