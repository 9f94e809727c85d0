-- ARGV: key. What is set aside stays.
local sum = read(ARGV[4], 't')
local out = { num(sum.s), num(sum.r) }
local fields = call('HKEYS', sum.a)
for _, field in ipairs(fields) do
  if string.match(field, '^[tmhdo]%d*s$') then call('HSET', sum.a, field, '0') end
end
call('HDEL', sum.a, 'x')
if #fields > 0 then call('HINCRBY', sum.a, 'z', 1) end
return {'balances', wrote(), out}
