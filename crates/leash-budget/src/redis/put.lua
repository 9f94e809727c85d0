-- ARGV: life; then key, window, span, spent.
local d = KEYS[1] .. ARGV[1] .. ':'
for i = 2, #ARGV, 4 do
  local a, w = d .. 'a:' .. ARGV[i], ARGV[i + 1]
  if w == 't' then
    redis.call('HSET', a, 'ts', ARGV[i + 3], 'tr', '0')
  else
    redis.call('HSET', a, w .. 's', ARGV[i + 3], w .. 'r', '0', w .. 'i', ARGV[i + 2])
  end
  redis.call('ZADD', d .. 'keys', 0, ARGV[i])
end
return 1
