-- Gives entities from ARGV[1] up to, without, ARGV[2] the state of entity 0.
local pack, call = struct.pack, redis.call
local first, past = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = call('GET', pack('<I8', 0))
for entity = first, past - 1 do
  call('SET', pack('<I8', entity), state)
end
return past - first
