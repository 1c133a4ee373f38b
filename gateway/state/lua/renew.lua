--[[
  Keep a running call's lease alive and note how far it has come.

  KEYS[1] lease  [2] leases  [3..7] key, account, buckets, running, outputs  [8..11] as in admit.lua
  ARGV[1] call id  [2] key id  [3] team, or ''  [4] lease, ms  [5] prompt tokens so far  [6] completion tokens so far

  Returns {1}
          {0} when the lease is no longer open: the call was taken for dead and has been settled
          {2} when its key has been revoked since: nothing is renewed
          {-1, team} when the call belongs to that team
]]
local function renew(KEYS, ARGV)
  local deadline = math.floor(clock() / 1000) + whole(ARGV[4], 'lease')
  local prompt, completion = whole(ARGV[5], 'prompt'), whole(ARGV[6], 'completion')
  local names = owners_at(KEYS, 3)
  local held = redis.call('HMGET', KEYS[1], 'state', 'team')
  if held[1] ~= 'open' then return {0} end
  if held[2] ~= ARGV[3] then return {-1, held[2]} end
  redis.call('HSET', KEYS[1], 'prompt', prompt, 'completion', completion)
  if redis.call('HGET', names.key, 'enabled') == '0' then return {2} end
  for _, running in ipairs({names.running, names.team and names.team.running}) do
    redis.call('ZADD', running, deadline, ARGV[1])
    outlive(running, LEASE_MEMORY_MS)
  end
  redis.call('ZADD', KEYS[2], deadline, ARGV[2] .. ':' .. ARGV[1])
  return {1}
end
redis.register_function{function_name = 'LIBRARY_renew', callback = renew, flags = {'allow-oom'}}
