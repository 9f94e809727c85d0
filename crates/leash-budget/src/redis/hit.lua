-- ARGV: key, limit, window in µs or ''.
local limit = tonumber(ARGV[5])
if ARGV[6] == '' then
  local key = d .. 'n:' .. ARGV[4]
  local count = tonumber(call('GET', key) or '0')
  if count >= limit then return {'hits', seq, {num(count), '0'}} end
  count = call('INCR', key)
  return {'hits', wrote(), {num(count), '1'}}
end
local key, within = d .. 'w:' .. ARGV[4], tonumber(ARGV[6])
-- Oldest first. A clock that stepped back makes events forgotten later, never earlier.
local newest = call('LINDEX', key, -1)
local at = math.max(now(), tonumber(newest or '0'))
while true do
  local oldest = call('LRANGE', key, 0, 255)
  local due = 0
  for _, then_ in ipairs(oldest) do
    if tonumber(then_) > at - within then break end
    due = due + 1
  end
  if due > 0 then call('LTRIM', key, due, -1) end
  if due < 256 then break end
end
local count = call('LLEN', key)
if count >= limit then return {'hits', wrote(), {num(count), '0'}} end
call('RPUSH', key, num(at))
call('PEXPIRE', key, num(math.ceil(within / 1000) + 1000))
return {'hits', wrote(), {num(count + 1), '1'}}
