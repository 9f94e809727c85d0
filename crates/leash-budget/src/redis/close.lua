-- ARGV: key.
local sum = read(ARGV[4], 't')
local out = { num(sum.s), num(sum.r) }
if sum.closed then return {'balances', seq, out} end
if sum.new then write(sum) end
call('HSET', sum.a, 'x', '1')
return {'balances', wrote(), out}
