--[[
  What a team may do and has used, without changing anything.

  KEYS[1] team  [2] its account  [3] its buckets  [4] its running calls

  Returns {1, month, <team as in inspect.lua>}, or {0, 'not_ready'} while Redis does not have it
]]
local function inspect_team(KEYS, ARGV)
  local now = clock()
  local month = month_of(now)
  local owner = owner_of('team', {key = KEYS[1], account = KEYS[2], buckets = KEYS[3], running = KEYS[4]})
  local account = owner and told(owner, month, now)
  if not account then return {0, 'not_ready'} end
  return {1, month, account}
end
redis.register_function{function_name = 'LIBRARY_inspect_team', callback = inspect_team, flags = {'no-writes'}}
