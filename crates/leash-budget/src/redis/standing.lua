-- ARGV: cursor, how many. One part of all holds, in no order.
local found = call('HSCAN', d .. 'h', ARGV[4], 'COUNT', ARGV[5])
local out = { { found[1] } }
for i = 1, #found[2], 2 do
  local id = found[2][i]
  local h = cmsgpack.unpack(found[2][i + 1])
  local item = { id, h[1], h[2], h[3] }
  for j = 4, #h, 5 do
    for k = 0, 3 do item[#item + 1] = h[j + k] end
  end
  item[#item + 1] = call('ZSCORE', d .. 'l', id) or '0'
  out[#out + 1] = item
end
return {'standing', seq, out}
