-- Ask to be told of the next change of an unfinished run. KEYS: own, r. ARGV: now, id, the revision that is known.
-- Answer: its header, or nothing.
local id = ARGV[2]
local run = stored(id)
if not run then return false end
if run[REVISION] <= tonumber(ARGV[3]) and not run[WATCHED] and run[PLACE] ~= 'F' then
  run[WATCHED] = true
  redis.call('HSET', own, id, cmsgpack.pack(run))
end
return { id, unpack(run, 1, 25) }
