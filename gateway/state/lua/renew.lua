--[[
  Keep a running call's lease alive and note how far it has come.

  KEYS[1] running  [2] lease  [3] leases
  ARGV[1] call id  [2] key id  [3] lease, ms  [4] prompt tokens so far  [5] completion tokens so far

  Returns 1, or 0 when the lease is no longer open: the call was taken for dead and has been settled.
]]
local function renew(KEYS, ARGV)
  local deadline = str(math.floor(clock() / 1000) + whole(ARGV[3], 'lease'))
  local prompt, completion = whole(ARGV[4], 'prompt'), whole(ARGV[5], 'completion')
  if redis.call('HGET', KEYS[2], 'state') ~= 'open' then return 0 end
  redis.call('HSET', KEYS[2], 'prompt', str(prompt), 'completion', str(completion))
  redis.call('ZADD', KEYS[1], deadline, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], LEASE_MEMORY_MS)
  redis.call('ZADD', KEYS[3], deadline, ARGV[2] .. ':' .. ARGV[1])
  return 1
end
redis.register_function{function_name = 'LIBRARY_renew', callback = renew, flags = {'allow-oom'}}
