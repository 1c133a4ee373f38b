--[[
  Renew the slots of calls that run. One that Redis has lost, or has taken for dead, is taken again: the node is busy with
  it whatever Redis thinks.

  KEYS    the fleet's
  ARGV    for each: id, backend, model, key, 1 while it loads the model

  Returns how many had to be taken again.
]]
local function hold(KEYS, ARGV)
  local f, now, again = fleet_at(KEYS), now_ms(), 0
  for at = 1, #ARGV, 5 do
    local id, backend, loads = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 4])
    if redis.call('HEXISTS', f.held, id) == 0 then
      local held = {b = backend, m = ARGV[at + 2], k = ARGV[at + 3], w = 1, t = now, c = 0, l = loads, h = 0}
      if loads == 1 and not loading(f, backend) then redis.call('HSET', f.loads, backend, id .. ' ' .. held.m) end
      redis.call('HSET', f.held, id, cjson.encode(held))
      count(f, held.b, held.m, 1)
      again = again + 1
    end
    redis.call('ZADD', f.slots, now + SLOT_MS, id)
  end
  if sweep(f, now) then grant(f, now) end
  return again
end
redis.register_function{function_name = 'LIBRARY_hold', callback = hold, flags = {'allow-oom'}}
