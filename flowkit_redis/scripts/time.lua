-- What every script begins with: the names of this shard's keys, and the time.
-- KEYS[1] is always the hash of unfinished runs. Names that a script makes from `prefix` are declared in KEYS, too.
local own = KEYS[1]
local prefix = string.sub(own, 1, -4)
local clock = redis.call('TIME')
local server_us = clock[1] * 1000000 + clock[2]
local now = tonumber(ARGV[1]) or math.floor(server_us / 1000)
