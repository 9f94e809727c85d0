-- ARGV: generation, life, whether an existing generation is replaced. Returns the number of the reply (0: nothing was
-- done) and the generation that is there now.
local meta = KEYS[1] .. 'meta'
local found = redis.call('HMGET', meta, 'generation', 'life')
if found[1] and ARGV[3] == '0' then return { 0, found[1] } end
-- Who numbered his life later has begun before: what belongs to this one may be swept away already.
if found[2] and tonumber(found[2]) >= tonumber(ARGV[2]) then return { 0, found[1] or '' } end
redis.call('HDEL', meta, 'lost')
redis.call('HSET', meta, 'schema', '2', 'generation', ARGV[1], 'life', ARGV[2])
return { redis.call('HINCRBY', meta, 'seq', 1), ARGV[1] }
