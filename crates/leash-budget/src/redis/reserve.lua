-- ARGV: id, lease in µs or 'inf', amount, lease as it was given, line; then key, window, cap, soft cap of each scope.
local id, amount = ARGV[4], tonumber(ARGV[6])
local scopes = (#ARGV - 8) / 4
local held = call('HGET', d .. 'h', id)
if held then
  local h = cmsgpack.unpack(held)
  local same = h[1] == ARGV[6] and #h == 3 + scopes * 5
  local out = {}
  for i = 0, same and scopes - 1 or -1 do
    local from, to = 9 + i * 4, 4 + i * 5
    for j = 0, 3 do same = same and h[to + j] == ARGV[from + j] end
    local sum = read(h[to], h[to + 1], h[to + 4])
    out[#out + 1] = num(sum.s)
    out[#out + 1] = num(sum.r)
  end
  if not same then return {'used', seq, {}} end
  return {'granted', seq, out}
end
if ended(id) then return {'used', seq, {}} end
local sums = {}
for i = 0, scopes - 1 do
  local from = 9 + i * 4
  local sum = read(ARGV[from], ARGV[from + 1])
  local cap = ARGV[from + 2] ~= '' and tonumber(ARGV[from + 2]) or nil
  if sum.closed then cap = 0 end
  local after = sum.s + sum.r + amount
  -- Without a cap, what is spent may fill the scope up; what is set aside has to be given back to the nano-dollar.
  if not cap then cap, after = MAX, sum.r + amount end
  if sum.closed or cap == 0 or after > cap then
    return {'refused', seq, {num(i), num(cap), num(sum.s), num(sum.r)}}
  end
  sums[i + 1] = sum
end
local h, out = { ARGV[6], ARGV[7], ARGV[8] }, {}
for i = 1, scopes do
  local sum, from = sums[i], 5 + i * 4
  sum.r = sum.r + amount
  write(sum)
  for j = 0, 3 do h[#h + 1] = ARGV[from + j] end
  h[#h + 1] = sum.at
  out[#out + 1] = num(sum.s)
  out[#out + 1] = num(sum.r)
end
call('HSET', d .. 'h', id, cmsgpack.pack(h))
call('ZADD', d .. 'l', ARGV[5] == 'inf' and '+inf' or num(now() + ARGV[5]), id)
return {'granted', wrote(), out}
