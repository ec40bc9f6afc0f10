-- Where a run stands: ready, leased, waiting, blocked or finished (rule X1), and what its limit lets it do.
-- Each lane (one queue and task) has: q ready runs, due timers and leases, of runs offered under limits, ho places held.
local REACH = 2047
local PLACE_OF_PRIORITY = 4398046511104  -- 2^42: milliseconds below it, priorities above, exact in a double

local runs, changed, declared = {}, {}, nil

local function is_declared(key)
  if not declared then
    declared = {}
    for n = 1, #KEYS do declared[KEYS[n]] = true end
  end
  return declared[key]
end

-- A finished run is found only by whoever has declared its key: nobody else has to do with one.
local function find(id)
  if runs[id] == nil then
    local finished, raw = prefix .. 'r:' .. id, redis.call('HGET', own, id)
    if not raw and is_declared(finished) then raw = redis.call('GET', finished) end
    runs[id] = raw and cmsgpack.unpack(raw) or false
  end
  return runs[id]
end

-- The only writer of headers: at the end of a script, once for each run that has changed.
local function save()
  for id, run in pairs(changed) do
    write_home(id, run)
    if run[PLACE] == GUEST then
      redis.call('HSET', prefix .. 'gu', id, cmsgpack.pack(run))
    elseif run[PLACE] == 'F' then
      redis.call('SET', prefix .. 'r:' .. id, cmsgpack.pack(run))
    else
      redis.call('HSET', own, id, cmsgpack.pack(run))
    end
  end
end

local function touch(id, run)
  run[UPDATED] = now
  run[REVISION] = run[REVISION] + 1
  changed[id] = run
  tell_watchers(id, run)
end

local function level(run)
  return math.max(-REACH, math.min(REACH, run[PRIORITY]))
end

-- What stands in the orders: among equals the older run is first, and its priority can be read without its header.
local function member(id, run)
  return string.format('%016.0f%04d', run[SEQ], level(run) + REACH) .. id
end

local function id_of(name) return string.sub(name, 21) end

local function count(what, lane, by)
  if redis.call('HINCRBY', prefix .. 'cnt', what .. lane, by) == 0 then
    redis.call('HDEL', prefix .. 'cnt', what .. lane)
  end
end

-- A hint for idle workers. Capped, since nobody may be there to take it.
local function wake(lane)
  local key = prefix .. 'wake:' .. lane
  if redis.call('LLEN', key) < 32 then redis.call('RPUSH', key, '1') end
end

-- ---- limits: of and ho are ordered by text, so that the runs of one key are a range

-- Whether this shard counts the run's place; another one may be its home (see homes.lua).
local function limited_here(run) return run[LIMIT] and not run[HOME] end

local function crowd(run)
  return string.format('%d:', #run[LIMIT]) .. run[LIMIT]
end

local function offer_name(id, run)
  return crowd(run) .. string.format('%04d%016.0f', REACH - level(run), run[SINCE]) .. member(id, run)
end

local function hold_name(id, run)
  return crowd(run) .. string.format('%016.0f', run[DUE]) .. member(id, run)
end

local function taken(run)
  local from = crowd(run) .. string.format('%016.0f', now)
  return redis.call('ZLEXCOUNT', prefix .. 'ho:' .. run[LANE], '(' .. from .. ':', '(' .. crowd(run) .. ':')
end

local function has_room(run)
  return not limited_here(run) or taken(run) < run[PLACES]
end

local function rank(run)
  return run[SINCE] - level(run) * PLACE_OF_PRIORITY
end

-- Show claims the first of those that wait, if it has room; the others stand behind it (rule X4).
local function settle(run)
  local lane, key = run[LANE], crowd(run)
  local first = redis.call('ZRANGEBYLEX', prefix .. 'of:' .. lane, '[' .. key, '(' .. key .. ':', 'LIMIT', 0, 2)
  local skip = #key + 20
  if first[2] then redis.call('ZREM', prefix .. 'q:' .. lane, string.sub(first[2], skip + 1)) end
  if not first[1] then return end
  local name = string.sub(first[1], skip + 1)
  local next_run = find(id_of(name)) or guest_of(id_of(name))
  if next_run and has_room(next_run) then
    redis.call('ZADD', prefix .. 'q:' .. lane, rank(next_run), name)
  else
    redis.call('ZREM', prefix .. 'q:' .. lane, name)
  end
end

-- Let claims find the run, as soon as its limit allows.
local function offer(id, run, since)
  run[SINCE] = since
  changed[id] = run
  if run[HOME] then
    asks[id] = true
    redis.call('ZADD', prefix .. 'due:' .. run[LANE], now + math.max(ASK_AGAIN, now - since), member(id, run))
  elseif run[LIMIT] then
    redis.call('ZADD', prefix .. 'of:' .. run[LANE], 0, offer_name(id, run))
    settle(run)
  else
    redis.call('ZADD', prefix .. 'q:' .. run[LANE], rank(run), member(id, run))
  end
end

-- Take the run out of what claims look at; its place is settled by whoever calls.
local function unoffer(id, run)
  if not run[SINCE] then return end
  if run[HOME] then
    asks[id] = nil
    redis.call('ZREM', prefix .. 'due:' .. run[LANE], member(id, run))
  else
    redis.call('ZREM', prefix .. 'q:' .. run[LANE], member(id, run))
    if run[LIMIT] then redis.call('ZREM', prefix .. 'of:' .. run[LANE], offer_name(id, run)) end
  end
  run[SINCE] = false
end

local function unhold(id, run)
  if limited_here(run) and run[DUE] then redis.call('ZREM', prefix .. 'ho:' .. run[LANE], hold_name(id, run)) end
end

local function lease_until(id, run, until_ms)
  unoffer(id, run)
  unhold(id, run)
  run[DUE] = until_ms
  changed[id] = run
  redis.call('ZADD', prefix .. 'due:' .. run[LANE], until_ms, member(id, run))
  if limited_here(run) then
    redis.call('ZADD', prefix .. 'ho:' .. run[LANE], 0, hold_name(id, run))
    settle(run)
  end
end

-- ---- from place to place

local function set_status(id, run, status)
  if run[STATUS] == status then return end
  if run[STATUS] then redis.call('ZREM', prefix .. 'st:' .. run[STATUS], id) end
  redis.call('ZADD', prefix .. 'st:' .. status, run[SEQ], id)
  run[STATUS] = status
end

local function leave(id, run)
  local lane, place = run[LANE], run[PLACE]
  if place == 'R' then
    count('r', lane, -1)
  elseif place == 'L' then
    count('l', lane, -1)
  elseif place == 'F' then
    redis.call('ZREM', prefix .. 'fin', member(id, run))
    redis.call('DEL', prefix .. 'r:' .. id)
  end
  unoffer(id, run)
  if place == 'L' then
    unhold(id, run)
    if run[HOME] then left[id] = run[OWNER] end
  end
  if run[DUE] then redis.call('ZREM', prefix .. 'due:' .. lane, member(id, run)) end
  run[OWNER], run[WORKER], run[DUE], run[ENOUGH], run[PLACE] = false, false, false, false, false
  if limited_here(run) and place then
    settle(run)
    -- its place may be free for another one
    if place == 'L' and redis.call('EXISTS', prefix .. 'q:' .. lane) == 1 then wake(lane) end
  end
end

local function drop_result(id, run)
  if run[RESULT] then
    redis.call('RPOP', prefix .. 'j:' .. id)
    run[RESULT] = false
  end
end

-- The outcome is the last element of the journal's list, so that a finished run needs one key less.
local function keep_result(id, run, result)
  drop_result(id, run)
  redis.call('RPUSH', prefix .. 'j:' .. id, result)
  run[RESULT] = true
end

local function ready(id, run)
  leave(id, run)
  run[PLACE] = 'R'
  count('r', run[LANE], 1)
  drop_result(id, run)
  offer(id, run, now)
  if run[STATUS] ~= 'compensating' then set_status(id, run, 'pending') end
  wake(run[LANE])
end

local function wait(id, run, wake_at, enough)
  leave(id, run)
  run[PLACE], run[DUE], run[ENOUGH] = 'W', wake_at or false, enough or false
  if run[STATUS] == 'running' then set_status(id, run, 'waiting') end
  if wake_at then
    redis.call('ZADD', prefix .. 'due:' .. run[LANE], wake_at, member(id, run))
    wake(run[LANE])  -- an idle worker is to know of a timer that comes sooner
  end
end

local function block(id, run, reason)
  if run[CANCEL] then return ready(id, run) end  -- a cancellation that came before it wakes as one after it would
  leave(id, run)
  run[PLACE] = 'B'
  keep_result(id, run, reason)
  set_status(id, run, 'blocked')
end

local function finish(id, run, status, result)
  leave(id, run)
  run[PLACE], run[FINISHED], run[INBOX] = 'F', now, 0
  keep_result(id, run, result)
  redis.call('DEL', prefix .. 'i:' .. id)
  redis.call('HDEL', own, id)
  redis.call('ZADD', prefix .. 'fin', now, member(id, run))
  set_status(id, run, status)
end

-- Give a run to a new owner. Only this ends the right of the one before (rule D4).
local function take(id, run, token, worker, lease_ms)
  if run[PLACE] == 'L' then run[CRASHES] = run[CRASHES] + 1 end  -- R4: neither handed back nor renewed
  leave(id, run)
  left[id] = nil  -- its home knows already who has it now
  run[PLACE], run[OWNER], run[WORKER] = 'L', token, worker
  run[FENCE] = math.max(run[FENCE] + 1, server_us)  -- grows also past a replica that has missed the last ones
  count('l', run[LANE], 1)
  lease_until(id, run, now + lease_ms)
  if run[STATUS] ~= 'compensating' then set_status(id, run, 'running') end
  touch(id, run)
end

-- What the token was granted, so that a claim whose answer was lost can be asked again (rule D7).
local function remember(token, lease_ms, ids)
  local key = prefix .. 'ct:' .. token
  if redis.call('EXISTS', key) == 1 then
    for n = 1, #ids do redis.call('LREM', key, 0, ids[n]) end
  end
  push(key, ids)
  redis.call('PEXPIRE', key, math.max(lease_ms, 60000))
end

-- ---- lanes are told by the run: a caller that has not declared the right ones is told them, before anything is written

local unknown = {}

local function check_lane(id, run)
  if run and not is_declared(prefix .. 'q:' .. run[LANE]) then
    unknown[#unknown + 1] = id
    unknown[#unknown + 1] = run[LANE]
  end
end

local function told(id, run)
  return { id, unpack(run, 1, 25) }
end
