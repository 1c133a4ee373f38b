--[[
  Tell all replicas something of a node. Nothing happens when it is known already.

  KEYS    the fleet's
  ARGV    name, value, …; an empty value takes the name away

  Returns the revision.
]]
local function saw(KEYS, ARGV)
  local f = fleet_at(KEYS)
  for at = 1, #ARGV, 2 do
    local field, value = ARGV[at], ARGV[at + 1]
    if (redis.call('HGET', f.nodes, field) or '') ~= value then
      if value == '' then redis.call('HDEL', f.nodes, field) else redis.call('HSET', f.nodes, field, value) end
      bump(f, field)
    end
  end
  return tonumber(redis.call('HGET', f.registry, 'revision') or '') or 0
end
redis.register_function('LIBRARY_saw', saw)
