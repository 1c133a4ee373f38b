--[[
  End a call: give back what it held, charge what it took, and write its usage event, all in one step.

  KEYS[1] key  [2] account  [3] tokens  [4] running  [5] lease  [6] leases  [7] usage
  ARGV[1] call id  [2] key id  [3] prompt tokens  [4] completion tokens  [5] credits earned, millionths; never charged beyond what the lease holds
  ARGV[6] '1' when the tokens are estimated  [7] detail (JSON) of the usage row

  Returns 1, or 0 when there is no open lease: settling twice is settling once.
]]
local function settle(KEYS, ARGV)
  local now = clock()
  local prompt, completion = whole(ARGV[3], 'prompt'), whole(ARGV[4], 'completion')
  local credits = whole(ARGV[5], 'credits')
  local held = open_lease(KEYS[5])
  if not held then return 0 end
  local keys = {key = KEYS[1], account = KEYS[2], tokens = KEYS[3], running = KEYS[4], lease = KEYS[5], leases = KEYS[6]}
  credits = math.min(credits, held.credits)
  close(keys, ARGV[2], ARGV[1], held, prompt + completion, credits, now)
  emit(KEYS[7], ARGV[2], ARGV[1], held, prompt, completion, credits, ARGV[6] == '1' and '1' or '0', ARGV[7])
  return 1
end
redis.register_function{function_name = 'LIBRARY_settle', callback = settle, flags = {'allow-oom'}}
