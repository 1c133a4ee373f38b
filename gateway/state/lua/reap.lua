--[[
  Settle a call whose replica died, with the last count it reported.

  KEYS[1] lease  [2] leases  [3] usage  [4..8] key, account, buckets, running, outputs  [9..12] as in admit.lua
  ARGV[1] call id  [2] key id  [3] team, or ''  [4] grace, ms: how long past its deadline a lease is left alone

  Returns {1} when it was settled, else {0}: it has been renewed, or is settled already. A lease whose hash is gone only
  loses its place among the open ones. {-1, team} when the call belongs to that team.
]]
local function reap(KEYS, ARGV)
  local now = clock()
  local names, member = owners_at(KEYS, 4), ARGV[2] .. ':' .. ARGV[1]
  local deadline = tonumber(redis.call('ZSCORE', KEYS[2], member) or '')
  if not deadline or deadline + whole(ARGV[4], 'grace') > math.floor(now / 1000) then return {0} end
  local held = open_lease(KEYS[1])
  if not held then
    redis.call('ZREM', KEYS[2], member)
    redis.call('ZREM', names.running, ARGV[1])
    return {0}
  end
  if held.team ~= ARGV[3] then return {-1, held.team} end
  local prompt, completion, detail = unpack(redis.call('HMGET', KEYS[1], 'prompt', 'completion', 'detail'))
  prompt, completion = tonumber(prompt), tonumber(completion)
  local price = completion > 0 and cost(held.price, prompt, completion) or 0
  local credits, team_credits = close(KEYS[1], KEYS[2], names, ARGV[2], ARGV[1], held, prompt + completion, price, now)
  emit(KEYS[3], ARGV[2], ARGV[1], held, prompt, completion, credits, team_credits, '1', detail or '')
  return {1}
end
redis.register_function{function_name = 'LIBRARY_reap', callback = reap, flags = {'allow-oom'}}
