--[[
  A lease: what an admitted call holds until it is settled, once.

  Hash: state (open, settled, void), at, month, team, model, tokens (held of the month), expected (taken of the tokens a
  minute), drawn (the buckets it drew from), credits and team_credits (held), price ("request prompt completion"),
  output, prompt, completion (the last count), detail.
]]

-- What an open lease holds; nil when there is none (never opened, settled already, or forgotten).
local function open_lease(key)
  local state, at, month, team, model, tokens, expected, drawn, team_drawn, credits, team_credits, price =
    unpack(redis.call('HMGET', key, 'state', 'at', 'month', 'team', 'model', 'tokens', 'expected', 'drawn',
      'team_drawn', 'credits', 'team_credits', 'price'))
  if state ~= 'open' then return nil end
  local request, prompt, completion = string.match(price, '(%d+) (%d+) (%d+)')
  return {at = at, month = month, team = team, model = model, tokens = tonumber(tokens), expected = tonumber(expected),
    drawn = drawn, team_drawn = team_drawn, credits = tonumber(credits), team_credits = tonumber(team_credits),
    price = {request = tonumber(request), prompt = tonumber(prompt), completion = tonumber(completion)}}
end

-- Which of the buckets a lease has drawn from, as a text that `drew` looks into.
local function drawn_of(buckets)
  local fields = {}
  for i, bucket in ipairs(buckets) do fields[i] = bucket.field end
  return ';' .. table.concat(fields, ';') .. ';'
end

local function drew(drawn, bucket)
  return string.find(drawn, ';' .. bucket.field .. ';', 1, true)
end

-- Gives back to one owner what the call held of it, and charges it.
local function release(names, held, drawn, held_credits, tokens, credits, call_id, now)
  local buckets = buckets_of(names, 'tokens', held.model, now)
  for _, bucket in ipairs(buckets) do
    local took = drew(drawn, bucket) and held.expected or 0
    bucket.level = math.min(bucket.full, bucket.level - (tokens - took) * bucket.den)
  end
  keep(names.buckets, buckets, now)
  add_to(names.account, {'held:' .. held.month, 'spent:' .. held.month, 'credit_held', 'charged'},
    {0 - held.tokens, tokens, 0 - held_credits, credits})
  redis.call('ZREM', names.running, call_id)
end

-- Ends an open lease: gives back what it held, charges `tokens` and, of each owner, at most what it holds of `price`.
-- Returns what the key and what the team were charged.
local function close(lease, leases, names, key_id, call_id, held, tokens, price, now)
  local credits, team_credits = math.min(price, held.credits), 0
  release(names, held, held.drawn, held.credits, tokens, credits, call_id, now)
  if names.team then
    team_credits = math.min(price, held.team_credits)
    release(names.team, held, held.team_drawn, held.team_credits, tokens, team_credits, call_id, now)
  end
  redis.call('ZREM', leases, key_id .. ':' .. call_id)
  redis.call('HSET', lease, 'state', 'settled', 'detail', '')
  redis.call('PEXPIRE', lease, LEASE_MEMORY_MS)
  return credits, team_credits
end

-- The one place that writes a usage event, always beside the charge it reports. Fields as in core/usage.py.
local function emit(stream, key_id, call_id, held, prompt, completion, credits, team_credits, estimated, detail)
  redis.call('XADD', stream, '*', 'v', '1', 'id', call_id, 'key', key_id, 'team', held.team, 'at', held.at,
    'month', held.month, 'prompt', prompt, 'completion', completion, 'credits', credits, 'team_credits', team_credits,
    'estimated', estimated, 'detail', detail)
end
