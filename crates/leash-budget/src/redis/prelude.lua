-- What every script begins with. KEYS[1]: the prefix of the domain. ARGV[1]: the generation that the caller opened;
-- ARGV[2]: the highest number that it was acknowledged; ARGV[3]: the time, or '' for the server's own.
local p, call = KEYS[1], redis.call
local meta = call('HMGET', p .. 'meta', 'generation', 'life', 'seq', 'lost')
if meta[1] ~= ARGV[1] then return {'generation', 0, {}} end
if not meta[4] and tonumber(meta[3]) < tonumber(ARGV[2]) then
  -- The server has said a higher number than it remembers: it forgot what came between. Everybody shall know.
  redis.call('HSET', p .. 'meta', 'lost', '1')
  meta[4] = '1'
end
if meta[4] then return {'lost', 0, {}} end
local d = p .. meta[2] .. ':'
local seq = tonumber(meta[3])
local time
-- Microseconds since 1970. Not everybody asks.
local function now()
  if not time then
    if ARGV[3] == '' then
      local clock = call('TIME')
      time = clock[1] * 1000000 + clock[2]
    else
      time = tonumber(ARGV[3])
    end
  end
  return time
end
local MAX = 9007199254740991
local format = string.format
-- Exact, as every number here is whole and below 2^53.
local function num(n) return format('%d', n) end
-- The number of a reply after something was written.
local function wrote() return redis.call('HINCRBY', p .. 'meta', 'seq', 1) end
