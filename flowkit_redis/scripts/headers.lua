-- Read headers. KEYS: own, then r of each. ARGV: now, ids. Answer: for each its header, or nothing.
local answer = {}
for n = 2, #ARGV do
  local run = stored(ARGV[n])
  answer[n - 1] = run and { ARGV[n], unpack(run, 1, 25) }
end
return answer
