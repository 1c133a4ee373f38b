--[[
  Undo an admission whose answer never reached the replica: the client was refused, so nothing may remain.

  KEYS[1] key  [2] account  [3] tokens  [4] running  [5] lease  [6] leases  [7] requests
  ARGV[1] call id  [2] key id

  Returns 1 when there was something to undo, else 0. No usage event: the call was never admitted as far as anyone knows.
  The call id is remembered all the same, for a hung Redis may run the admission after this: it is refused then.
]]
local function void(KEYS, ARGV)
  local now = clock()
  local held = open_lease(KEYS[5])
  if not held then
    if redis.call('EXISTS', KEYS[5]) == 0 then
      redis.call('HSET', KEYS[5], 'state', 'void')
      redis.call('PEXPIRE', KEYS[5], LEASE_MEMORY_MS)
    end
    return 0
  end
  local keys = {key = KEYS[1], account = KEYS[2], tokens = KEYS[3], running = KEYS[4], lease = KEYS[5], leases = KEYS[6]}
  close(keys, ARGV[2], ARGV[1], held, 0, 0, now)
  local rpm = tonumber(redis.call('HGET', KEYS[1], 'rpm') or '')
  if rpm then
    local rate = per_minute(rpm)
    local bucket = refill(KEYS[7], rate, now)
    bucket.level = math.min(rate.full, bucket.level + rate.den)
    keep(KEYS[7], bucket, rate, now)
  end
  return 1
end
redis.register_function{function_name = 'LIBRARY_void', callback = void, flags = {'allow-oom'}}
