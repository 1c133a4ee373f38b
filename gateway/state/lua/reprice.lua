--[[
  Tell the replicas all prices. An older list never replaces a newer one.

  KEYS[1] prices
  ARGV[1] version  [2..] model or `*`, its prices as price.lua reads them, …

  Returns 1, or 0 when Redis already has this version or a newer one.
]]
local PRICES_VERSION = 'version'  -- no model is called so: all names have a tag

local function reprice(KEYS, ARGV)
  local version = whole(ARGV[1], 'version')
  if (tonumber(redis.call('HGET', KEYS[1], PRICES_VERSION) or '') or -1) >= version then return 0 end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], PRICES_VERSION, str(version))
  for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  return 1
end
redis.register_function{function_name = 'LIBRARY_reprice', callback = reprice, flags = {'allow-oom'}}
