-- ARGV: limit, who asks, the how-manieth batch of his, how long a line may be owed. A batch whose reply was lost is told
-- again to him who asks for it again; what he does not confirm in time is told to the next who asks.
local mine, limit = d .. 'c:' .. ARGV[5], tonumber(ARGV[4])
local last = call('GET', mine)
if last then
  last = cmsgpack.unpack(last)
  if last[1] == tonumber(ARGV[6]) then return {'expired', seq, last[2]} end
  -- A question that was under way for long, and that nobody listens to any more.
  if last[1] > tonumber(ARGV[6]) then return {'expired', seq, {}} end
end
local until_ = num(now() + ARGV[7])
local all = {}

-- What is told of a hold: itself, what was charged and whether it was settled, its scopes, their sums.
local function item(id, h, cost, sums)
  local told = { id, h[1], h[2], h[3], cost or h[1], cost and '1' or '0' }
  for i = 4, #h, 5 do
    for j = 0, 3 do told[#told + 1] = h[i + j] end
  end
  for _, sum in ipairs(sums) do
    told[#told + 1] = num(sum.s)
    told[#told + 1] = num(sum.r)
  end
  return told
end

-- Charged before, and nobody said that the line is written.
for _, id in ipairs(call('ZRANGEBYSCORE', d .. 'o', '-inf', '(' .. num(now()), 'LIMIT', 0, limit)) do
  local owed = call('HGET', d .. 'x', id)
  if owed then
    local held, cost = owed_of(owed)
    local h, sums = cmsgpack.unpack(held), {}
    for i = 4, #h, 5 do sums[#sums + 1] = read(h[i], h[i + 1], h[i + 4]) end
    all[#all + 1] = item(id, h, cost, sums)
    call('ZADD', d .. 'o', until_, id)
  else
    call('ZREM', d .. 'o', id)
  end
end

local due = {}
if #all < limit then
  due = call('ZRANGEBYSCORE', d .. 'l', '-inf', '(' .. num(now()), 'LIMIT', 0, limit - #all)
end
for _, id in ipairs(due) do
  local held = call('HGET', d .. 'h', id)
  if held then
    local h = cmsgpack.unpack(held)
    local amount = tonumber(h[1])
    local x, sums = { h[1] }, {}
    for i = 4, #h, 5 do
      local sum = read(h[i], h[i + 1], h[i + 4])
      sum.s = math.min(MAX, sum.s + amount)
      sum.r = math.max(0, sum.r - amount)
      write(sum)
      sums[#sums + 1] = sum
      local n = #x
      x[n + 1], x[n + 2], x[n + 3], x[n + 4] = h[i], h[i + 1], h[i + 4], call('HGET', sum.a, 'z') or '0'
    end
    call('HDEL', d .. 'h', id)
    finish(id, 'x' .. cmsgpack.pack(x, held))
    call('HSET', d .. 'x', id, held)
    call('ZADD', d .. 'o', until_, id)
    all[#all + 1] = item(id, h, nil, sums)
  end
  call('ZREM', d .. 'l', id)
end
call('SET', mine, cmsgpack.pack({ tonumber(ARGV[6]), all }), 'EX', KEPT_SECONDS)
return {'expired', wrote(), all}
