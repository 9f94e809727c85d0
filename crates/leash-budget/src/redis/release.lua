-- ARGV: id.
local id = ARGV[4]
local held = call('HGET', d .. 'h', id)
local how = 'r'
if held then
  local x = {}
  local h = cmsgpack.unpack(held)
  for i = 4, #h, 5 do
    local sum = read(h[i], h[i + 1], h[i + 4])
    sum.r = math.max(0, sum.r - tonumber(h[1]))
    write(sum)
    local n = #x
    x[n + 1], x[n + 2], x[n + 3] = h[i], h[i + 1], h[i + 4]
  end
  call('HDEL', d .. 'h', id)
  call('ZREM', d .. 'l', id)
  if #x > 0 then how = how .. cmsgpack.pack(x) end
elseif ended(id) then
  return {'ok', seq, {}}
end
finish(id, how)
return {'ok', wrote(), {}}
