-- The hot path: commits that only append entries to runs which go on as they were. One round trip, one header each.
-- KEYS: own, then r and j of each run.
-- ARGV: now, then for each commit: id, owner, fence, commit id, base, status, count, entries.
-- Answer: now, then for each commit four numbers: kind (0 done, 1 fenced, 2 gap, 3 missing), length, cancel, inbox;
-- or -2, with nothing written, if a status would change: that is for commit.lua.
local runs = {}
local at = 2
while ARGV[at] do
  local id = ARGV[at]
  if runs[id] == nil then runs[id] = stored(id) or false end
  if runs[id] and runs[id][STATUS] ~= ARGV[at + 5] then return { -2 } end
  at = at + 7 + ARGV[at + 6]
end

local answer = { now }

local function say(kind, length, cancel, inbox)
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = kind, length, cancel and 1 or 0, inbox
end

local function append(id, run, commit_id, count, first)
  local journal = prefix .. 'j:' .. id
  if count == 1 then
    redis.call('RPUSH', journal, ARGV[first])
  elseif count > 0 then
    local entries = {}
    for n = 1, count do entries[n] = ARGV[first + n - 1] end
    push(journal, entries)
  end
  if count > 0 then run[LENGTH], run[CRASHES] = run[LENGTH] + count, 0 end
  run[COMMIT], run[UPDATED], run[REVISION] = commit_id, now, run[REVISION] + 1
  if run[WATCHED] then tell_watchers(id, run) end
  redis.call('HSET', own, id, cmsgpack.pack(run))
end

at = 2
while ARGV[at] do
  local id, count = ARGV[at], tonumber(ARGV[at + 6])
  local run = runs[id]
  if not run then
    say(3, 0, false, 0)
  else
    local no = refusal(run, ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], tonumber(ARGV[at + 4]))
    if no == 'fenced' then
      say(1, 0, false, 0)
    elseif no == 'gap' then
      say(2, run[LENGTH], false, 0)
    else
      if not no then append(id, run, ARGV[at + 3], count, at + 7) end
      say(0, run[LENGTH], run[CANCEL], run[INBOX])
    end
  end
  at = at + 7 + count
end
return answer
