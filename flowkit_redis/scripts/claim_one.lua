-- Lease one run by its id. ARGV: now, token, worker, lease in ms, limit, id.
-- Answer as in claim.lua; or -1, the run's id and its lane, if that was not declared.
local token, worker, lease_ms, limit, id = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local run = find(id)
if not run then return { now, false, {} } end
check_lane(id, run)
if unknown[1] then return { -1, unpack(unknown) } end

local function claimable()
  local place = run[PLACE]
  if place == 'L' or place == 'W' then
    if not run[DUE] or run[DUE] > now then return false end
  elseif place ~= 'R' then
    return false
  end
  return has_room(run)
end

local leases = {}
local mine = run[OWNER] == token
if not mine and limit > 0 and claimable() then
  take(id, run, token, worker, lease_ms)
  remember(token, lease_ms, { id })
  mine = true
end
if mine then leases[1] = { id, run[FENCE], run[CRASHES], run[LANE] } end
save()
return { now, run[DUE], leases }
