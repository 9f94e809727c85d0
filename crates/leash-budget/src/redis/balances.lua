-- ARGV: key, window of each scope.
local out = {}
for i = 4, #ARGV, 2 do
  local sum = read(ARGV[i], ARGV[i + 1])
  out[#out + 1] = num(sum.s)
  out[#out + 1] = num(sum.r)
end
return {'balances', seq, out}
