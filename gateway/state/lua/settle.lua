--[[
  End a call: give back what it held, charge what it took, and write its usage event, all in one step.

  KEYS[1] lease  [2] leases  [3] usage  [4..8] key, account, buckets, running, outputs  [9..12] as in admit.lua
  ARGV[1] call id  [2] key id  [3] team, or ''  [4] prompt tokens  [5] completion tokens
  ARGV[6] '1' when it is to be paid: at the price of its admission, never beyond what the lease holds
  ARGV[7] '1' when the tokens are estimated  [8] '1' when the answer is whole, so that its length may be learned from
  ARGV[9] detail (JSON) of the usage row

  Returns {1, credits charged to the key, to the team}
          {0} when there is no open lease: settling twice is settling once
          {-1, team} when the call belongs to that team
]]
local function settle(KEYS, ARGV)
  local now = clock()
  local prompt, completion = whole(ARGV[4], 'prompt'), whole(ARGV[5], 'completion')
  local names, held = owners_at(KEYS, 4), open_lease(KEYS[1])
  if not held then return {0} end
  if held.team ~= ARGV[3] then return {-1, held.team} end
  local price = ARGV[6] == '1' and cost(held.price, prompt, completion) or 0
  local credits, team_credits = close(KEYS[1], KEYS[2], names, ARGV[2], ARGV[1], held, prompt + completion, price, now)
  if ARGV[8] == '1' then learn(names.outputs, held.model, completion) end
  emit(KEYS[3], ARGV[2], ARGV[1], held, prompt, completion, credits, team_credits, ARGV[7] == '1' and '1' or '0', ARGV[9])
  return {1, credits, team_credits}
end
redis.register_function{function_name = 'LIBRARY_settle', callback = settle, flags = {'allow-oom'}}
