--[[
  Change a breaker, if it is still what the replica has decided on.

  KEYS    the fleet's
  ARGV[1] its name among what is told of nodes  [2] what it was, or ''  [3] what it is to be, or ''

  Returns {1, now ms}, or {0, now ms, what it is}.
]]
local function judge(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local is = redis.call('HGET', f.nodes, ARGV[1]) or ''
  if is ~= ARGV[2] then return {0, now, is} end
  if ARGV[3] == '' then redis.call('HDEL', f.nodes, ARGV[1]) else redis.call('HSET', f.nodes, ARGV[1], ARGV[3]) end
  bump(f, ARGV[1])
  return {1, now}
end
redis.register_function{function_name = 'LIBRARY_judge', callback = judge, flags = {'allow-oom'}}
