-- A run's header: one packed array, in the hash `own` until the run has finished, then under a key of its own.
local SEQ, LANE, PRIORITY, EXTRA, CREATED, UPDATED, FINISHED, STATUS, PLACE, DUE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local ENOUGH, LENGTH, INBOX, CRASHES, CANCEL, OWNER, WORKER, FENCE, COMMIT, REVISION = 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
local RESULT, WATCHED, SINCE, PLACES, LIMIT, HOME = 21, 22, 23, 24, 25, 26

local function stored(id)
  local raw = redis.call('HGET', own, id) or redis.call('GET', prefix .. 'r:' .. id)
  return raw and cmsgpack.unpack(raw)
end

-- D4, D7: 'done' before, 'fenced', 'gap', or nil if the commit is to be applied.
local function refusal(run, owner, fence, commit_id, base)
  if run[COMMIT] == commit_id then return 'done' end
  if run[OWNER] ~= owner or run[FENCE] ~= fence then return 'fenced' end
  if run[LENGTH] ~= base then return 'gap' end
end

-- Lua passes arguments on its stack, so a list of any length goes in pieces.
local function push(key, values)
  for first = 1, #values, 500 do
    redis.call('RPUSH', key, unpack(values, first, math.min(first + 499, #values)))
  end
end

local function tell_watchers(id, run)
  if run[WATCHED] then
    run[WATCHED] = false
    redis.call('PUBLISH', prefix .. 'run:' .. id, '1')
  end
end
