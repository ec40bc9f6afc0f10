-- Write a shared value if its revision is still the one that is known. KEYS: the value. ARGV: revision, value.
-- Answer: the new revision, or nothing.
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision')) or 0
if revision ~= tonumber(ARGV[1]) then return false end
redis.call('HSET', KEYS[1], 'revision', revision + 1, 'value', ARGV[2])
return revision + 1
