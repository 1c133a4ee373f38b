--[[
  Tell the replicas what Postgres knows of a key or a team. An older version never replaces a newer one; the same does,
  for it may hold other limits when the gateway's defaults have changed.

  KEYS[1] key or team  [2] its account
  ARGV[1] version  [2] credits charged ever, millionths, used only where Redis has no figure; '' to leave it alone
  ARGV[3] month (YYYYMM) and [4] tokens spent in it, used only where Redis has none; '' to leave them alone
  ARGV[5..] field, value, … of the record, as owner.lua reads it

  Returns 1, or 0 when Redis already has a newer version.
]]
local function publish(KEYS, ARGV)
  local version = whole(ARGV[1], 'version')
  local charged = ARGV[2] ~= '' and whole(ARGV[2], 'charged')
  local spent = ARGV[4] ~= '' and whole(ARGV[4], 'spent')
  if charged then redis.call('HSETNX', KEYS[2], 'charged', str(charged)) end
  if spent then redis.call('HSETNX', KEYS[2], 'spent:' .. ARGV[3], str(spent)) end
  if (tonumber(redis.call('HGET', KEYS[1], 'version') or '') or -1) > version then return 0 end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'version', str(version), unpack(ARGV, 5))
  return 1
end
redis.register_function{function_name = 'LIBRARY_publish', callback = publish, flags = {'allow-oom'}}
