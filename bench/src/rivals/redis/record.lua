-- Records the events of ARGV[1]: entity (8 bytes), time (seconds, f64), weight (f64), and so on.
-- A state is a string: last update, three decayed sums, all-time count, where the hours begin,
-- then (minute, count) and (hour, count), each newest first. Half-lives: 1 h, 24 h, 7 d.
local pack, unpack, sub = struct.pack, struct.unpack, string.sub
local exp, floor, call = math.exp, math.floor, redis.call
local A, B, C = -math.log(2) / 3600, -math.log(2) / 86400, -math.log(2) / 604800
local HEAD = 40

-- Counts an event of bucket `id` in a list whose newest is `first`; `span` buckets are kept.
local function count(list, first, id, span)
  if id > first then
    list = pack('<I4I4', id, 1) .. list
    while unpack('<I4', list, #list - 7) <= id - span do
      list = sub(list, 1, -9)
    end
    return list
  end
  if id <= first - span then
    return list
  end
  local at, bytes = 1, #list
  while at < bytes do
    local have, events = unpack('<I4I4', list, at)
    if have == id then
      return sub(list, 1, at - 1) .. pack('<I4I4', id, events + 1) .. sub(list, at + 8)
    end
    if have < id then
      break
    end
    at = at + 8
  end
  return sub(list, 1, at - 1) .. pack('<I4I4', id, 1) .. sub(list, at)
end

local events, at = ARGV[1], 1
local bytes = #events
while at <= bytes do
  local key, time, weight
  key, time, weight, at = unpack('<c8dd', events, at)
  local minute, hour = floor(time / 60), floor(time / 3600)
  local state = call('GET', key)
  if state then
    local last, a, b, c, all, hours_at, newest = unpack('<ddddI4I4I4', state)
    if time >= last then
      local dt = time - last
      a, b, c = a * exp(A * dt) + weight, b * exp(B * dt) + weight, c * exp(C * dt) + weight
      last = time
    else
      local dt = last - time
      a, b, c = a + weight * exp(A * dt), b + weight * exp(B * dt), c + weight * exp(C * dt)
    end
    local minutes = count(sub(state, HEAD + 1, hours_at - 1), newest, minute, 60)
    local hours = sub(state, hours_at)
    hours = count(hours, unpack('<I4', hours), hour, 168)
    local head = pack('<ddddI4I4', last, a, b, c, all + 1, HEAD + 1 + #minutes)
    call('SET', key, head .. minutes .. hours)
  else
    local head = pack('<ddddI4I4', time, weight, weight, weight, 1, HEAD + 9)
    call('SET', key, head .. pack('<I4I4I4I4', minute, 1, hour, 1))
  end
end
return bytes / 24
