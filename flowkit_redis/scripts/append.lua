-- The hot path: commits that only append entries to runs which go on as they were. One round trip, one header each.
-- KEYS: own, then r and j of each run.
-- ARGV: now, then for each commit: id, owner, fence, commit id, base, status, count, entries.
-- Answer: numbers in one text: now, then for each commit its kind (0 done, 1 fenced, 2 gap, 3 missing), length, cancel,
-- inbox; or -2, with nothing written, if a status would change: that is for commit.lua.
local AT_ONCE = 200
local DONE, FENCED, GAP, MISSING = 0, 1, 2, 3

local ids, runs = {}, {}
local at = 2
while ARGV[at] do
  local id = ARGV[at]
  if runs[id] == nil then
    runs[id] = false
    ids[#ids + 1] = id
  end
  at = at + 7 + ARGV[at + 6]
end

for first = 1, #ids, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, #ids)
  local found = redis.call('HMGET', own, unpack(ids, first, last))
  for n = first, last do
    local raw = found[n - first + 1] or redis.call('GET', prefix .. 'r:' .. ids[n])
    if raw then runs[ids[n]] = cmsgpack.unpack(raw) end
  end
end

at = 2
while ARGV[at] do
  local run = runs[ARGV[at]]
  if run and run[STATUS] ~= ARGV[at + 5] then return '-2' end
  at = at + 7 + ARGV[at + 6]
end

local answer = { now }
local changed = {}

local function append(id, run, commit_id, count, first)
  if count == 1 then
    redis.call('RPUSH', prefix .. 'j:' .. id, ARGV[first])
  elseif count > 0 then
    local entries = {}
    for n = 1, count do entries[n] = ARGV[first + n - 1] end
    push(prefix .. 'j:' .. id, entries)
  end
  if count > 0 then run[LENGTH], run[CRASHES] = run[LENGTH] + count, 0 end
  run[COMMIT], run[UPDATED], run[REVISION] = commit_id, now, run[REVISION] + 1
  if run[WATCHED] then tell_watchers(id, run) end
  changed[id] = run
end

at = 2
while ARGV[at] do
  local id, count = ARGV[at], tonumber(ARGV[at + 6])
  local run, kind, length = runs[id], MISSING, 0
  if run then
    local no = refusal(run, ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], tonumber(ARGV[at + 4]))
    if not no then append(id, run, ARGV[at + 3], count, at + 7) end
    kind, length = no == 'fenced' and FENCED or no == 'gap' and GAP or DONE, run[LENGTH]
  end
  local n = #answer
  answer[n + 1], answer[n + 2] = kind, length
  answer[n + 3], answer[n + 4] = run and run[CANCEL] and 1 or 0, run and run[INBOX] or 0
  at = at + 7 + count
end

local fields = {}
for id, run in pairs(changed) do
  fields[#fields + 1], fields[#fields + 2] = id, cmsgpack.pack(run)
end
for first = 1, #fields, 2 * AT_ONCE do
  redis.call('HSET', own, unpack(fields, first, math.min(first + 2 * AT_ONCE - 1, #fields)))
end
return table.concat(answer, ' ')
