--[[
  Undo an admission whose answer never reached the replica: the client was refused, so nothing may remain.

  KEYS[1] lease  [2] leases  [3..7] key, account, buckets, running, outputs  [8..11] as in admit.lua
  ARGV[1] call id  [2] key id  [3] team, or ''

  Returns {1} when there was something to undo, else {0}; {-1, team} when the call belongs to that team. No usage event:
  the call was never admitted as far as anyone knows. The call id is remembered all the same, for a hung Redis may run
  the admission after this: it is refused then.
]]
local function void(KEYS, ARGV)
  local now = clock()
  local names, held = owners_at(KEYS, 3), open_lease(KEYS[1])
  if not held then
    if redis.call('EXISTS', KEYS[1]) == 0 then
      redis.call('HSET', KEYS[1], 'state', 'void')
      redis.call('PEXPIRE', KEYS[1], LEASE_MEMORY_MS)
    end
    return {0}
  end
  if held.team ~= ARGV[3] then return {-1, held.team} end
  close(KEYS[1], KEYS[2], names, ARGV[2], ARGV[1], held, 0, 0, now)
  for whose, of in pairs({key = names, team = names.team}) do
    local found, drawn = {}, whose == 'key' and held.drawn or held.team_drawn
    for _, bucket in ipairs(buckets_of(of, 'requests', held.model, now)) do
      if drew(drawn, bucket) then
        bucket.level = math.min(bucket.full, bucket.level + bucket.den)
        found[#found + 1] = bucket
      end
    end
    keep(of.buckets, found, now)
  end
  return {1}
end
redis.register_function{function_name = 'LIBRARY_void', callback = void, flags = {'allow-oom'}}
