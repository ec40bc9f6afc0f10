-- Read another page of a run's inbox. KEYS: own, i. ARGV: now, id, where it begins. Answer: see inbox.lua.
return page_of_inbox(ARGV[2], ARGV[3])
