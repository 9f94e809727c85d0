-- The sums of scopes. `w` is a window: t, m, h, d or o (month).
local function span(w)
  if w == 't' then return 0 end
  local s = math.floor(now() / 1000000)
  if w == 'm' then return math.floor(s / 60) end
  if w == 'h' then return math.floor(s / 3600) end
  local z = math.floor(s / 86400)
  if w == 'd' then return z end
  -- Year and month of a day: years begin in March, so that the leap day is the last.
  z = z + 719468
  local era = math.floor(z / 146097)
  local day = z - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  day = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * day + 2) / 153)
  year = year + era * 400
  if month < 10 then return year * 12 + month + 2 end
  return (year + 1) * 12 + month - 10
end

-- The sums of `key` under `w`: in the span `at`, or where there is none in the present one, which is never an older
-- one than has been seen.
local function read(key, w, at)
  local a = d .. 'a:' .. key
  local v, newest
  if w == 't' then
    v = call('HMGET', a, 'ts', 'tr', 'x')
    newest = v[1] and 0 or nil
  else
    v = call('HMGET', a, w .. 's', w .. 'r', 'x', w .. 'i')
    newest = tonumber(v[4])
  end
  local sum = {
    a = a, key = key, w = w, s = 0, r = 0, at = 0, closed = v[3], new = newest == nil, past = false, gone = false,
    left = false
  }
  if at == nil then
    at = span(w)
    if newest and newest > at then at = newest end
  end
  sum.at = at
  if newest == at then
    sum.s, sum.r = tonumber(v[1]), tonumber(v[2])
  elseif newest and newest > at then
    -- A span that is over: kept beside the present one while holds are in it.
    sum.past = w .. num(at)
    local old = call('HMGET', a, sum.past .. 's', sum.past .. 'r')
    if old[1] then sum.s, sum.r = tonumber(old[1]), tonumber(old[2]) else sum.gone = true end
  elseif newest and tonumber(v[2]) > 0 then
    sum.left = { w .. num(newest) .. 's', v[1], w .. num(newest) .. 'r', v[2] }
  end
  return sum
end

local function write(sum)
  if sum.gone then return end
  local a, w = sum.a, sum.w
  if sum.past then
    if sum.r > 0 then
      call('HSET', a, sum.past .. 's', num(sum.s), sum.past .. 'r', num(sum.r))
    else
      call('HDEL', a, sum.past .. 's', sum.past .. 'r')
    end
    return
  end
  if sum.left then call('HSET', a, unpack(sum.left)) end
  if w == 't' then
    call('HSET', a, 'ts', num(sum.s), 'tr', num(sum.r))
  else
    call('HSET', a, w .. 's', num(sum.s), w .. 'r', num(sum.r), w .. 'i', num(sum.at))
  end
  if sum.new then call('ZADD', d .. 'keys', 0, sum.key) end
end
