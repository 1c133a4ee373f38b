--[[
  What a key may do and has used, without changing anything.

  KEYS[1] ready  [2] key  [3] account  [4] requests  [5] tokens  [6] running
  ARGV[1] hex digest of the presented key

  Returns {1, '', month, tokens limit a month or -1, tokens spent, tokens held, credit or -1, credit held,
           concurrency or -1, calls running, <levels as in admit>}
          {0, reason}
]]
local function inspect(KEYS, ARGV)
  local now = clock()
  local key, why = known(KEYS[1], KEYS[2], ARGV[1], now)
  if not key then return {0, why} end
  local month = month_of(now)
  local account = redis.call('HMGET', KEYS[3], 'credit', 'credit_held', 'spent:' .. month, 'held:' .. month)
  if key.metered and not account[1] then return {0, 'not_ready'} end
  local request_rate, token_rate = per_minute(key.rpm), key.tpm and per_minute(key.tpm)
  local rl, rr, rt = report(refill(KEYS[4], request_rate, now), request_rate, key.rpm, now)
  local tl, tr, tt = report(token_rate and refill(KEYS[5], token_rate, now), token_rate, key.tpm, now)
  local running = redis.call('ZCOUNT', KEYS[6], '(' .. str(math.floor(now / 1000)), '+inf')
  return {1, '', month, key.monthly or -1, tonumber(account[3]) or 0, tonumber(account[4]) or 0,
    key.metered and tonumber(account[1]) or -1, tonumber(account[2]) or 0, key.concurrency or -1, running,
    rl, rr, rt, tl, tr, tt}
end
redis.register_function{function_name = 'LIBRARY_inspect', callback = inspect, flags = {'no-writes'}}
