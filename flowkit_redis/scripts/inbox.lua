-- A page of a run's inbox: where the next one begins ('0': nowhere), messages (arrival, id, kind, name, payload). The pages
-- have all that was there when the first of them was read, some of it twice (https://redis.io/docs/latest/commands/scan/).
local MESSAGES = 200
local function page_of_inbox(id, from)
  local found = redis.call('HSCAN', prefix .. 'i:' .. id, from, 'COUNT', MESSAGES)
  local fields, messages = found[2], {}
  for n = 1, #fields, 2 do
    messages[#messages + 1] = { fields[n], unpack(cmsgpack.unpack(fields[n + 1])) }
  end
  return { found[1], messages }
end
