--[[
  Let a call in and reserve what it may take, or refuse it and write nothing.

  KEYS[1] ready  [2] key  [3] account  [4] requests  [5] tokens  [6] running  [7] lease  [8] leases
  ARGV[1] call id            [2] key id                 [3] hex digest of the presented key
  ARGV[4] objection: what the replica already knows against the call; said only to someone with a valid key
  ARGV[5] prompt tokens at most    [6] tokens expected in all    [7] output tokens wanted at most
  ARGV[8] price, millionths of a credit                          [9] lease, ms
  ARGV[10] prompt tokens expected, which the reaper charges when nothing better is known
  ARGV[11] detail (JSON) of the usage row that the reaper writes if the replica dies

  Returns {1, '', 0, admitted at ms, output tokens granted, <levels>}    in; asking again with one call id is answered alike
          {0, reason, wait ms or -1, 0, 0, <levels>}                     refused; one reason, one wait
  <levels> = requests limit, left, ms until full; tokens limit, left, ms until full; -1 where there is no limit
]]
local function admit(KEYS, ARGV)
  local now = clock()
  local prompt_max, expected, output = whole(ARGV[5], 'prompt'), whole(ARGV[6], 'expected'), whole(ARGV[7], 'output')
  local price, lease_ms = whole(ARGV[8], 'price'), whole(ARGV[9], 'lease')
  local prompt_expected = whole(ARGV[10], 'prompt expected')

  local key, why = known(KEYS[1], KEYS[2], ARGV[3], now)
  if not key then return {0, why, -1, 0, 0, -1, -1, 0, -1, -1, 0} end

  local request_rate, token_rate = per_minute(key.rpm), key.tpm and per_minute(key.tpm)
  local requests = refill(KEYS[4], request_rate, now)
  local tokens = token_rate and refill(KEYS[5], token_rate, now)
  local function answer(granted, reason, wait, at, output_granted)
    local rl, rr, rt = report(requests, request_rate, key.rpm, now)
    local tl, tr, tt = report(tokens, token_rate, key.tpm, now)
    return {granted, reason, wait, at, output_granted, rl, rr, rt, tl, tr, tt}
  end
  local function refuse(reason, wait) return answer(0, reason, wait, 0, 0) end

  local before = redis.call('HMGET', KEYS[7], 'state', 'at', 'output')
  if before[1] == 'open' then return answer(1, '', 0, tonumber(before[2]), tonumber(before[3])) end
  if before[1] then return refuse('ended', -1) end
  if ARGV[4] ~= '' then return refuse(ARGV[4], -1) end

  -- what waiting cannot mend comes first
  local month = month_of(now)
  local account = redis.call('HMGET', KEYS[3], 'credit', 'credit_held', 'spent:' .. month, 'held:' .. month)
  local credit = tonumber(account[1])
  if key.metered and not credit then return refuse('not_ready', -1) end
  if token_rate and expected > key.tpm then return refuse('too_large', -1) end
  if key.metered and credit < price then return refuse('credits', -1) end
  local unspent = key.monthly and key.monthly - (tonumber(account[3]) or 0) - prompt_max
  if unspent and unspent < 1 then return refuse('month', -1) end

  -- then what waiting mends: the longest wait of all that is short
  local wait, reason = 0, nil
  if key.metered and credit - (tonumber(account[2]) or 0) < price then wait, reason = HELD_WAIT_MS, 'held' end
  local unheld = unspent and unspent - (tonumber(account[4]) or 0)
  if unheld and unheld < 1 then wait, reason = HELD_WAIT_MS, 'held' end
  if key.concurrency and redis.call('ZCOUNT', KEYS[6], '(' .. str(math.floor(now / 1000)), '+inf') >= key.concurrency then
    wait, reason = HELD_WAIT_MS, 'concurrency'
  end
  local requests_ms = wait_ms(requests, request_rate, 1, now)
  if requests_ms > wait then wait, reason = requests_ms, 'requests' end
  local tokens_ms = token_rate and wait_ms(tokens, token_rate, expected, now) or 0
  if tokens_ms > wait then wait, reason = tokens_ms, 'tokens' end
  if reason then return refuse(reason, wait) end

  -- nothing is refused any more; from here on only writes
  if unheld then output = math.min(output, unheld) end
  local at_ms, deadline = math.floor(now / 1000), str(math.floor(now / 1000) + lease_ms)
  local held_tokens, held_credits = prompt_max + output, key.metered and price or 0
  requests.level = requests.level - request_rate.den
  keep(KEYS[4], requests, request_rate, now)
  if token_rate then
    tokens.level = tokens.level - expected * token_rate.den
    keep(KEYS[5], tokens, token_rate, now)
  end
  redis.call('HINCRBY', KEYS[3], 'held:' .. month, str(held_tokens))
  if held_credits > 0 then redis.call('HINCRBY', KEYS[3], 'credit_held', str(held_credits)) end
  redis.call('ZADD', KEYS[6], deadline, ARGV[1])
  redis.call('PEXPIRE', KEYS[6], LEASE_MEMORY_MS)
  redis.call('ZADD', KEYS[8], deadline, ARGV[2] .. ':' .. ARGV[1])
  redis.call('HSET', KEYS[7], 'state', 'open', 'at', str(at_ms), 'month', month, 'tokens', str(held_tokens),
    'expected', str(token_rate and expected or 0), 'credits', str(held_credits),
    'output', str(output), 'prompt', str(prompt_expected), 'completion', '0', 'detail', ARGV[11])
  return answer(1, '', 0, at_ms, output)
end
redis.register_function('LIBRARY_admit', admit)
