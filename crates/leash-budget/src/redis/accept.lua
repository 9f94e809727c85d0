-- ARGV: generation. Goes on with what is there, under a new name.
local meta = KEYS[1] .. 'meta'
if redis.call('HEXISTS', meta, 'generation') == 0 then return 0 end
redis.call('HDEL', meta, 'lost')
redis.call('HSET', meta, 'generation', ARGV[1])
return redis.call('HINCRBY', meta, 'seq', 1)
