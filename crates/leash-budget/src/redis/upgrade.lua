-- Takes the keys of schema 1 over, which are keys of schema 2 as they stand. No program that knows only the former opens
-- them from then on: it would not understand what is kept of settled calls.
local meta = KEYS[1] .. 'meta'
if redis.call('HGET', meta, 'schema') == '1' then redis.call('HSET', meta, 'schema', '2') end
return 1
