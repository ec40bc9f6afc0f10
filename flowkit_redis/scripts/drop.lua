-- Remove letters that were carried over. KEYS: the outbox. ARGV: the letters.
for n = 1, #ARGV do redis.call('LREM', KEYS[1], 1, ARGV[n]) end
return #ARGV
