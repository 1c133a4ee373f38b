--[[
  Settle a call whose replica died, with the last count it reported.

  KEYS[1] key  [2] account  [3] tokens  [4] running  [5] lease  [6] leases  [7] usage
  ARGV[1] call id  [2] key id  [3] grace, ms: how long past its deadline a lease is left alone

  Returns 1 when it was settled, else 0: it has been renewed, or is settled already. A lease whose hash is gone only
  loses its place among the open ones.
]]
local function reap(KEYS, ARGV)
  local now = clock()
  local member = ARGV[2] .. ':' .. ARGV[1]
  local deadline = tonumber(redis.call('ZSCORE', KEYS[6], member) or '')
  if not deadline or deadline + whole(ARGV[3], 'grace') > math.floor(now / 1000) then return 0 end
  local held = open_lease(KEYS[5])
  if not held then
    redis.call('ZREM', KEYS[6], member)
    redis.call('ZREM', KEYS[4], ARGV[1])
    return 0
  end
  local last = redis.call('HMGET', KEYS[5], 'prompt', 'completion', 'detail')
  local prompt, completion = tonumber(last[1]), tonumber(last[2])
  local credits = completion > 0 and held.credits or 0
  local keys = {key = KEYS[1], account = KEYS[2], tokens = KEYS[3], running = KEYS[4], lease = KEYS[5], leases = KEYS[6]}
  close(keys, ARGV[2], ARGV[1], held, prompt + completion, credits, now)
  emit(KEYS[7], ARGV[2], ARGV[1], held, prompt, completion, credits, '1', last[3])
  return 1
end
redis.register_function{function_name = 'LIBRARY_reap', callback = reap, flags = {'allow-oom'}}
