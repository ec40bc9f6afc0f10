-- Create runs whose ids are free. ARGV: now, then the runs.
-- Answer: now, then for each run: 0 (created) or 1 (exists), and its header.
local answer = { now }
local new_runs = {}
while position < #ARGV do new_runs[#new_runs + 1] = read_run() end
for n = 1, #new_runs do
  local new = new_runs[n]
  local run, kind = find(new.id), 0
  if not run then
    run = create(new)
  elseif not new.token or run[OWNER] ~= new.token then  -- D7: the first answer may have been lost
    kind = 1
  end
  answer[#answer + 1] = kind
  answer[#answer + 1] = told(new.id, run)
end
save()
return answer
