--[[
  Tell the replicas what Postgres knows of a key. An older version never replaces a newer one.

  KEYS[1] key  [2] account
  ARGV[1] version  [2] credit balance, millionths, used only where Redis has none; '' for a key without credits
  ARGV[3] month (YYYYMM) and [4] tokens spent in it, used only where Redis has none; '' to leave them alone
  ARGV[5..] field, value, … of the key record

  Returns 1, or 0 when Redis already has this version or a newer one.
]]
local function publish(KEYS, ARGV)
  local version = whole(ARGV[1], 'version')
  local credit = ARGV[2] ~= '' and whole(ARGV[2], 'credit')
  local spent = ARGV[4] ~= '' and whole(ARGV[4], 'spent')
  if credit then redis.call('HSETNX', KEYS[2], 'credit', str(credit)) end
  if spent then redis.call('HSETNX', KEYS[2], 'spent:' .. ARGV[3], str(spent)) end
  if (tonumber(redis.call('HGET', KEYS[1], 'version') or '') or -1) >= version then return 0 end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'version', str(version), unpack(ARGV, 5))
  return 1
end
redis.register_function{function_name = 'LIBRARY_publish', callback = publish, flags = {'allow-oom'}}
