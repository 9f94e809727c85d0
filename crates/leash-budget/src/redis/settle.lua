-- ARGV: id, cost, how long its line may be owed or '' where it is not; then key, window of each scope.
local id, cost = ARGV[4], tonumber(ARGV[5])
local owes = ARGV[6] ~= ''
local held = call('HGET', d .. 'h', id)
local how = not held and ended(id) or nil
local done = {}
local function charge(key, w, at, reserved, charged, resets)
  local sum = read(key, w, at)
  -- What was charged before a reset is not there any more.
  if resets and resets ~= (call('HGET', sum.a, 'z') or '0') then charged = 0 end
  -- An absurd bill fills the scope up for good rather than being lost.
  sum.s = math.min(MAX, math.max(0, sum.s - charged) + cost)
  sum.r = math.max(0, sum.r - reserved)
  write(sum)
  done[w .. key] = sum
end
-- Keeps the hold until its line is written.
local function owe(h)
  call('HSET', d .. 'x', id, 's' .. ARGV[5] .. ':' .. h)
  if owes then call('ZADD', d .. 'o', num(now() + ARGV[6]), id) end
end
local applied, was_expired = how ~= 's', false
if held then
  local h = cmsgpack.unpack(held)
  for i = 4, #h, 5 do charge(h[i], h[i + 1], h[i + 4], tonumber(h[1]), 0) end
  call('HDEL', d .. 'h', id)
  call('ZREM', d .. 'l', id)
  if owes then owe(held) end
elseif how and string.sub(how, 1, 1) == 'x' then
  was_expired = true
  local x, as_held = cmsgpack.unpack(string.sub(how, 2))
  for i = 2, #x, 4 do charge(x[i], x[i + 1], x[i + 2], 0, tonumber(x[1]), x[i + 3]) end
  -- Whoever was given it may owe its line still: then it is the next who is told of the new charge.
  local owed = call('HGET', d .. 'x', id)
  if owed then owe((owed_of(owed))) elseif owes and as_held then owe(as_held) end
elseif how and #how > 1 then
  -- Given back, but billed all the same: the money is gone, so it is counted, where it was set aside.
  local x = cmsgpack.unpack(string.sub(how, 2))
  for i = 1, #x, 3 do charge(x[i], x[i + 1], x[i + 2], 0, 0) end
elseif applied then
  -- Never seen, or given back before it was: the money is gone, so it is counted.
  for i = 7, #ARGV, 2 do charge(ARGV[i], ARGV[i + 1], nil, 0, 0) end
end
local out = { applied and '1' or '0', was_expired and '1' or '0' }
for i = 7, #ARGV, 2 do
  local sum = done[ARGV[i + 1] .. ARGV[i]] or read(ARGV[i], ARGV[i + 1])
  out[#out + 1] = num(sum.s)
  out[#out + 1] = num(sum.r)
end
if not applied then return {'settled', seq, out} end
finish(id, 's')
return {'settled', wrote(), out}
