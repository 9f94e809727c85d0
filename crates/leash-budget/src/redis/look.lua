-- What is there, for whoever opens it.
local meta = redis.call('HMGET', KEYS[1] .. 'meta', 'generation', 'schema', 'seq', 'lost')
return { meta[1] or '', meta[2] or '', meta[3] or '0', meta[4] or '' }
