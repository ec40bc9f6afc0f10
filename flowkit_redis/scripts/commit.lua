-- Commits of any kind. KEYS: what a general script declares (see keys.py), and those of the runs that are written to.
-- Answer as in append.lua, and at its end what lies in the outbox; or -1, then ids and lanes of runs whose lanes were not declared, nothing having been written.
local function read_then()
  local after = { kind = argument() }
  if after.kind == 'go' then
    after.status = argument()
  elseif after.kind == 'suspend' then
    after.wake_at, after.enough, after.seen = number(), number(), argument() == '1'
  elseif after.kind == 'block' then
    after.result = argument()
  elseif after.kind == 'finish' then
    after.status, after.result = argument(), argument()
  end
  return after
end

local function read_commit()
  local commit = { id = argument(), owner = argument(), fence = number(), commit_id = argument(), base = number() }
  commit.entries, commit.consume = list(argument), list(argument)
  commit.spawn, commit.send, commit.out = list(read_run), list(read_message), list(argument)
  commit.after = read_then()
  return commit
end

local function go_on(id, run, after)
  if after.kind == 'go' then
    set_status(id, run, after.status)
  elseif after.kind == 'yield' then
    ready(id, run)
  elseif after.kind == 'block' then
    block(id, run, after.result)
  elseif after.kind == 'finish' then
    finish(id, run, after.status, after.result)
  elseif (run[CANCEL] and not after.seen) or (after.wake_at and after.wake_at <= now)
    or (after.enough and run[INBOX] >= after.enough) then
    ready(id, run)
  else
    wait(id, run, after.wake_at, after.enough)
  end
end

local function apply(commit, run)
  local id = commit.id
  run[COMMIT] = commit.commit_id
  if #commit.entries > 0 then
    push(prefix .. 'j:' .. id, commit.entries)
    run[LENGTH], run[CRASHES] = run[LENGTH] + #commit.entries, 0
  end
  for n = 1, #commit.consume do consume(id, run, commit.consume[n]) end
  for n = 1, #commit.spawn do
    if not find(commit.spawn[n].id) then create(commit.spawn[n]) end  -- E3: a child exists once
  end
  for n = 1, #commit.send do deliver(commit.send[n]) end
  if #commit.out > 0 then push(prefix .. 'out', commit.out) end
  go_on(id, run, commit.after)
  touch(id, run)
end

local commits = {}
while position < #ARGV do commits[#commits + 1] = read_commit() end

for n = 1, #commits do  -- everything is looked at before the first write: a script that fails is not undone
  check_lane(commits[n].id, find(commits[n].id))
  for k = 1, #commits[n].send do check_lane(commits[n].send[k].to, find(commits[n].send[k].to)) end
end
if unknown[1] then return { -1, unpack(unknown) } end

local answer = { now }
for n = 1, #commits do
  local commit = commits[n]
  local run = find(commit.id)
  local kind, no = 3, nil
  if run then
    no = refusal(run, commit.owner, commit.fence, commit.commit_id, commit.base)
    kind = no == 'fenced' and 1 or no == 'gap' and 2 or 0
    if not no then apply(commit, run) end
  end
  local at = #answer
  answer[at + 1], answer[at + 2] = kind, run and run[LENGTH] or 0
  answer[at + 3], answer[at + 4] = run and run[CANCEL] and 1 or 0, run and run[INBOX] or 0
end
save()
answer[#answer + 1] = redis.call('LLEN', prefix .. 'out')
return table.concat(answer, ' ')
