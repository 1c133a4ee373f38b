--[[
  What a key may do and has used, and its team, without changing anything.

  KEYS[1] ready  [2..6] key, account, buckets, running, outputs  [7..10] as in admit.lua
  ARGV[1] team, or ''  [2] digests of the presented key; '*' when an operator asks  [3] address, 32 hex digits

  Returns {1, month, globs of the models it may use, its scopes, <key>} or {1, month, globs, scopes, <key>, <team>}
          {0, reason};  {-1, team} as admit.lua
  <key>, <team> = {tokens a month or -1, spent, held, credits granted or -1, charged, held, concurrency or -1, running,
                   <levels as in admit.lua, of its own>, a list of {kind and glob of models, limit, left, ms until full},
                   account (field, value, …)}
]]
local function inspect(KEYS, ARGV)
  local now = clock()
  local names = owners_at(KEYS, 2)
  local who, why, team = known(KEYS[1], names, ARGV[2] ~= '*' and ARGV[2] or nil, ARGV[3], '', ARGV[1], now)
  if why == 'team' then return {-1, team} end
  if not who then return {0, why} end
  local month = month_of(now)
  local answer = {1, month, who.allow, who.scopes}
  for _, owner in ipairs(who.owners) do
    local account = told(owner, month, now)
    if not account then return {0, 'not_ready'} end
    answer[#answer + 1] = account
  end
  return answer
end
redis.register_function{function_name = 'LIBRARY_inspect', callback = inspect, flags = {'no-writes'}}
