-- Lease one run by its id. ARGV: now, token, worker, lease in ms, limit, id, and 1 for whoever has a place for it already.
-- Answer: now, when it comes due, its lease as in claim.lua, the time; and what its home is to be told first (a place for
-- it is needed) or now (it is leased to another one): see homes.lua. Or -1, its id and its lane, if that was not declared.
local token, worker, lease_ms, limit, id = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local has_place = ARGV[7] == '1'
local run = find(id)
if not run then return { now, false, {}, server_us } end
check_lane(id, run)
if unknown[1] then return { -1, unpack(unknown) } end

local function claimable()
  local place = run[PLACE]
  return place == 'R' or (place == 'L' or place == 'W') and run[DUE] and run[DUE] <= now
end

local leases, home = {}, nil
local mine = run[OWNER] == token
if not mine and limit > 0 and claimable() and (has_place or has_room(run)) then
  if run[HOME] and not has_place then
    home = told_home('take', id, run, token, lease_ms)
  else
    take(id, run, token, worker, lease_ms)
    if not has_place then remember(token, lease_ms, { id }) end
    mine = true
  end
elseif not mine and has_place and run[PLACE] == 'L' then
  home = told_home('hold', id, run, run[OWNER], run[DUE] - now)
end
if mine then leases[1] = { id, run[FENCE], run[CRASHES], run[LANE] } end
save()
return { now, run[DUE], leases, server_us, home }
