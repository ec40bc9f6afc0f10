-- Extend leases that are still held. ARGV: now, lease in ms, then for each: id, owner, fence.
-- Answer: for each: 1 if held, cancel, inbox; then what homes are to be told (see homes.lua); or -1, ids and lanes that were not declared.
local lease_ms = tonumber(ARGV[2])
for at = 3, #ARGV, 3 do check_lane(ARGV[at], find(ARGV[at])) end
if unknown[1] then return { -1, unpack(unknown) } end
local answer, holds = {}, {}
for at = 3, #ARGV, 3 do
  local id = ARGV[at]
  local run = find(id)
  local held = run and run[OWNER] == ARGV[at + 1] and run[FENCE] == tonumber(ARGV[at + 2])
  if held then
    lease_until(id, run, now + lease_ms)  -- late is no loss as long as nobody else has claimed it
    if run[HOME] then holds[#holds + 1] = told_home('hold', id, run, run[OWNER], lease_ms) end
  end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = held and 1 or 0, held and run[CANCEL] and 1 or 0, held and run[INBOX] or 0
end
save()
return { answer, holds }
