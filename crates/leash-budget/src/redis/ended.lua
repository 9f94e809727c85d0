-- Ids that have ended: 's' settled, 'r…' released, 'x…' expired and charged. Ids of one moment share a small hash.
local KEPT_SECONDS = 90000
local function ended(id) return call('HGET', d .. 'e:' .. string.sub(id, 1, 10), string.sub(id, 11)) end
local function finish(id, how)
  local key = d .. 'e:' .. string.sub(id, 1, 10)
  call('HSET', key, string.sub(id, 11), how)
  call('EXPIRE', key, KEPT_SECONDS)
end
