-- ARGV: limit, who asks, the how-manieth batch of his. A batch whose reply was lost is told again to him who asks for
-- it again, so that no hold is charged without anybody to write its line.
local mine = d .. 'c:' .. ARGV[5]
local last = call('GET', mine)
if last then
  last = cmsgpack.unpack(last)
  if last[1] == tonumber(ARGV[6]) then return {'expired', seq, last[2]} end
  -- A question that was under way for long, and that nobody listens to any more.
  if last[1] > tonumber(ARGV[6]) then return {'expired', seq, {}} end
end
local due = call('ZRANGEBYSCORE', d .. 'l', '-inf', '(' .. num(now()), 'LIMIT', 0, ARGV[4])
local all = {}
for _, id in ipairs(due) do
  local held = call('HGET', d .. 'h', id)
  if held then
    local h = cmsgpack.unpack(held)
    local amount = tonumber(h[1])
    local item, x = { id, h[1], h[2], h[3] }, { h[1] }
    local sums = {}
    for i = 4, #h, 5 do
      local sum = read(h[i], h[i + 1], h[i + 4])
      sum.s = math.min(MAX, sum.s + amount)
      sum.r = math.max(0, sum.r - amount)
      write(sum)
      for j = 0, 3 do item[#item + 1] = h[i + j] end
      sums[#sums + 1] = num(sum.s)
      sums[#sums + 1] = num(sum.r)
      local n = #x
      x[n + 1], x[n + 2], x[n + 3], x[n + 4] = h[i], h[i + 1], h[i + 4], call('HGET', sum.a, 'z') or '0'
    end
    for _, sum in ipairs(sums) do item[#item + 1] = sum end
    call('HDEL', d .. 'h', id)
    finish(id, 'x' .. cmsgpack.pack(x))
    all[#all + 1] = item
  end
  call('ZREM', d .. 'l', id)
end
call('SET', mine, cmsgpack.pack({ tonumber(ARGV[6]), all }), 'EX', KEPT_SECONDS)
return {'expired', wrote(), all}
