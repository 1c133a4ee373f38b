--[[
  Tell the replicas what operators say of the fleet. An older version never replaces a newer one.

  KEYS    the fleet's
  ARGV[1] version  [2] the registry as JSON  [3..] node, slots (0: it gets no new calls), …

  Returns 1, or 0 when Redis already has a newer version.
]]
-- What is known of a node that is no more. Calls that still run there keep their slots. That its breakers are gone is
-- told: the node may be one of the settings, that operators overrule no longer.
local function forget_node(f, name)
  for _, field in ipairs({'state:' .. name, 'models:' .. name}) do
    redis.call('HDEL', f.nodes, field)
    redis.call('ZREM', f.changes, field)
  end
  local prefix = 'breaker:' .. name .. ' '
  for _, field in ipairs(redis.call('HKEYS', f.nodes)) do
    if string.sub(field, 1, #prefix) == prefix then
      redis.call('HDEL', f.nodes, field)
      bump(f, field)
    end
  end
  for _, field in ipairs(redis.call('HKEYS', f.rates)) do
    if string.sub(field, 1, #name + 1) == name .. ' ' then redis.call('HDEL', f.rates, field) end
  end
  redis.call('HDEL', f.turns, 'probe ' .. name, 'loading ' .. name, 'list ' .. name)
end

local function register(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local version = whole(ARGV[1], 'version')
  if (tonumber(redis.call('HGET', f.registry, 'version') or '') or -1) > version then return 0 end
  redis.call('HSET', f.registry, 'version', str(version), 'document', ARGV[2])
  local before = redis.call('HKEYS', f.capacity)
  redis.call('DEL', f.capacity)
  for at = 3, #ARGV, 2 do redis.call('HSET', f.capacity, ARGV[at], str(whole(ARGV[at + 1], 'slots'))) end
  for _, name in ipairs(before) do
    if redis.call('HEXISTS', f.capacity, name) == 0 then forget_node(f, name) end
  end
  grant(f, now)
  return 1
end
redis.register_function{function_name = 'LIBRARY_register', callback = register, flags = {'allow-oom'}}
