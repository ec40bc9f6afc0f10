-- How runs come into being, receive messages, and are changed by a commit. `argument` reads ARGV from left to right.
local position = 1

local function argument()
  position = position + 1
  return ARGV[position]
end

local function number() return tonumber(argument()) end

local function list(read)
  local items = {}
  for n = 1, number() do items[n] = read() end
  return items
end

local function read_run()
  local new = { id = argument(), lane = argument(), priority = number(), extra = argument(), input = argument() }
  new.start_at, new.places, new.limit, new.home = number(), number(), argument(), number()
  if argument() == '1' then
    new.token, new.worker, new.lease_ms = argument(), argument(), number()
  end
  new.indexes, new.entries = list(argument), list(argument)
  return new
end

local function read_message()
  return { to = argument(), id = argument(), kind = argument(), name = argument(), payload = argument() }
end

-- Numbers grow, and are no other shard's: below the milliseconds there are 32 shards, above one another in one shard.
local function next_number()
  local shard = tonumber(string.match(prefix, ':(%d+)}$'))
  local number = math.max((tonumber(redis.call('GET', prefix .. 'seq')) or shard) + 32, now * 1024 + shard)
  redis.call('SET', prefix .. 'seq', string.format('%.0f', number))
  return number
end

local function create(new)
  local id = new.id
  local run = { next_number(), new.lane, new.priority, new.extra, now, now, false, false, false, false,
    false, #new.entries, 0, 0, false, false, false, 0, false, 1,
    false, false, false, new.places or false, new.places and new.limit or false, new.home or false }
  runs[id], changed[id] = run, run
  redis.call('RPUSH', prefix .. 'j:' .. id, new.input)
  push(prefix .. 'j:' .. id, new.entries)
  for n = 1, #new.indexes do redis.call('ZADD', prefix .. new.indexes[n], run[SEQ], id) end
  if new.token and not new.home and has_room(run) then
    take(id, run, new.token, new.worker, new.lease_ms)
    remember(new.token, new.lease_ms, { id })
  elseif not new.token and new.start_at and new.start_at > now then
    set_status(id, run, 'pending')
    wait(id, run, new.start_at)
  else
    ready(id, run)
  end
  return run
end

local DELIVERED, DUPLICATE, CLOSED, MISSING = 0, 1, 2, 3

local function receives(run, kind)
  if kind == 'reopen' then return run[STATUS] == 'failed' or run[STATUS] == 'blocked' end
  return run[PLACE] ~= 'F'
end

-- i: arrival number -> message; m: id -> arrival number, or 0 for what is not in the inbox.
local function put_into_inbox(run, message)
  local arrival = string.format('%016.0f', run[REVISION])
  local packed = cmsgpack.pack({ message.id, message.kind, message.name, message.payload })
  redis.call('HSET', prefix .. 'i:' .. message.to, arrival, packed)
  redis.call('HSET', prefix .. 'm:' .. message.to, message.id, arrival)
  run[INBOX] = run[INBOX] + 1
end

local function deliver(message)
  local id = message.to
  local run = find(id)
  if not run then return MISSING end
  if redis.call('HEXISTS', prefix .. 'm:' .. id, message.id) == 1 then return DUPLICATE end  -- E5, and first (D7)
  if not receives(run, message.kind) then return CLOSED end
  if message.kind == 'cancel' then
    redis.call('HSET', prefix .. 'm:' .. id, message.id, '0')
    run[CANCEL] = true
    if run[PLACE] == 'W' or run[PLACE] == 'B' then ready(id, run) end  -- E2: always wakes
  else
    put_into_inbox(run, message)
    if message.kind == 'reopen' then
      run[CRASHES], run[CANCEL], run[FINISHED] = 0, false, false
      ready(id, run)
    elseif run[ENOUGH] and run[INBOX] >= run[ENOUGH] then
      ready(id, run)
    end
  end
  touch(id, run)
  return DELIVERED
end

local function consume(id, run, message_id)
  local known = prefix .. 'm:' .. id
  local arrival = redis.call('HGET', known, message_id)
  if arrival and redis.call('HDEL', prefix .. 'i:' .. id, arrival) == 1 then run[INBOX] = run[INBOX] - 1 end
  redis.call('HSET', known, message_id, '0')
end
