-- Forget finished runs. ARGV: now, before, then for each: id, number of its indexes, their names.
-- Answer: how many were forgotten. What has been reopened, or is another run by now, is left alone.
local before, forgotten, at = tonumber(ARGV[2]), 0, 3
while ARGV[at] do
  local id, indexes = ARGV[at], tonumber(ARGV[at + 1])
  local run = stored(id)
  if run and run[PLACE] == 'F' and run[FINISHED] < before then
    redis.call('ZREM', prefix .. 'fin', string.format('%016.0f%04d', run[SEQ], math.max(-2047, math.min(2047, run[PRIORITY])) + 2047) .. id)
    redis.call('ZREM', prefix .. 'st:' .. run[STATUS], id)
    for n = 1, indexes do redis.call('ZREM', prefix .. ARGV[at + 1 + n], id) end
    for _, name in ipairs({ 'r:', 'j:', 'i:', 'm:' }) do redis.call('UNLINK', prefix .. name .. id) end
    tell_watchers(id, run)
    forgotten = forgotten + 1
  end
  at = at + 2 + indexes
end
return forgotten
