-- Deliver one message. Answer: what became of it, what lies in the outbox; or -1, the run's id and its lane, if that was not declared.
local message = read_message()
check_lane(message.to, find(message.to))
if unknown[1] then return { -1, unpack(unknown) } end
local delivery = deliver(message)
save()
return { delivery, redis.call('LLEN', prefix .. 'out') }
