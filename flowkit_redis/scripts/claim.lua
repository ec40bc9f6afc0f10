-- Lease runs of some lanes. ARGV: now, token, worker, lease in ms, limit, lanes.
-- Answer: now, when the next one comes due (or nil), the leases (id, fence, crashes, lane), what lies in the outbox, and
-- the guests that were given a place (id, lane): their runs are to be claimed where they lie.
local MOVES = 20  -- timers and leases of a lane that one call puts in line

local token, worker, lease_ms, limit = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lanes = {}
for n = 6, #ARGV do lanes[n - 5] = ARGV[n] end

local leases, passes = {}, {}
local function grant(id, run)
  leases[#leases + 1] = { id, run[FENCE], run[CRASHES], run[LANE] }
end

-- Put what has come due in line; the runs themselves change only when they are taken.
local function offer_due(lane)
  local key = prefix .. 'due:' .. lane
  local names = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, MOVES)
  for n = 1, #names do
    redis.call('ZREM', key, names[n])
    local id = id_of(names[n])
    local run = find(id) or guest_of(id)
    if run then offer(id, run, run[SINCE] or run[DUE]) end
  end
end

local function head(lane)
  local first = redis.call('ZRANGE', prefix .. 'q:' .. lane, 0, 0, 'WITHSCORES')
  return first[1] and { lane = lane, name = first[1], rank = tonumber(first[2]) }
end

local function before(a, b)
  return a.rank < b.rank or (a.rank == b.rank and a.name < b.name)
end

local heads = {}
local function best()
  local found
  for n = 1, #lanes do
    local h = heads[n]
    if h and (not found or before(h, heads[found])) then found = n end
  end
  return found
end

local function take_best()
  local ids = {}
  for n = 1, #lanes do heads[n] = head(lanes[n]) or false end
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
      redis.call('ZREM', prefix .. 'q:' .. lanes[at], name)
    end
    heads[at] = head(lanes[at]) or false
  end
  if ids[1] then remember(token, lease_ms, ids) end
end

local function next_due()
  local soonest
  for n = 1, #lanes do
    local first = redis.call('ZRANGE', prefix .. 'due:' .. lanes[n], 0, 0, 'WITHSCORES')
    local due = tonumber(first[2])
    if due and (not soonest or due < soonest) then soonest = due end
  end
  return soonest or false
end

local granted = redis.call('LRANGE', prefix .. 'ct:' .. token, 0, 999)
for n = 1, #granted do
  local id = granted[n]
  local run, guest = find(id), guest_of(id)
  if run and run[OWNER] == token then grant(id, run) end
  if guest and guest[OWNER] == token and guest[DUE] > now then passes[#passes + 1] = { id, guest[LANE] } end
end
if not leases[1] and not passes[1] then
  for n = 1, #lanes do offer_due(lanes[n]) end
  take_best()
  for n = 1, #lanes do
    if not heads[n] then redis.call('DEL', prefix .. 'wake:' .. lanes[n]) end  -- nothing is there to be woken for
  end
end
save()
return { now, next_due(), leases, redis.call('LLEN', prefix .. 'out'), passes }
