-- Count. KEYS: own, cnt, then the indexes by status in their order. Answer: the fields of cnt, then a number for each status.
local counts = {}
for n = 3, #KEYS do counts[n - 2] = redis.call('ZCARD', KEYS[n]) end
return { redis.call('HGETALL', KEYS[2]), counts }
