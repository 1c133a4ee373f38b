--[[
  A lease: what an admitted call holds until it is settled, once.

  Hash: state (open, settled, void), at, month, team, model, tokens (held of the month), expected (taken of the tokens a
  minute), drawn (the buckets it drew from), credits and team_credits (held), price ("request prompt completion"),
  output, prompt, completion (the last count), detail.
]]

local LEASE_FIELDS = {'state', 'at', 'month', 'team', 'model', 'tokens', 'expected', 'drawn', 'team_drawn', 'credits',
  'team_credits', 'price', 'prompt', 'completion', 'detail'}

-- What an open lease holds; nil when there is none (never opened, settled already, or forgotten).
local function open_lease(key)
  local held = record(key, LEASE_FIELDS)
  if held.state ~= 'open' then return nil end
  local request, prompt, completion = string.match(held.price, '(%d+) (%d+) (%d+)')
  held.price = {request = tonumber(request), prompt = tonumber(prompt), completion = tonumber(completion)}
  for _, field in ipairs({'tokens', 'expected', 'credits', 'team_credits', 'prompt', 'completion'}) do
    held[field] = tonumber(held[field])
  end
  return held
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
local function release(whose, names, held, drawn, held_credits, tokens, credits, call_id, now)
  local owner = owner_of(whose, names)
  if owner then
    local found = {}
    for _, bucket in ipairs(buckets_for(owner, held.model, now)) do
      if bucket.kind == 'tokens' then
        local took = drew(drawn, bucket) and held.expected or 0
        bucket.level = math.min(bucket.full, bucket.level - (tokens - took) * bucket.den)
        found[#found + 1] = bucket
      end
    end
    keep(names.buckets, found, now)
  end
  if held.tokens > 0 then redis.call('HINCRBY', names.account, 'held:' .. held.month, str(0 - held.tokens)) end
  if tokens > 0 then redis.call('HINCRBY', names.account, 'spent:' .. held.month, str(tokens)) end
  if held_credits > 0 then redis.call('HINCRBY', names.account, 'credit_held', str(0 - held_credits)) end
  if credits > 0 then redis.call('HINCRBY', names.account, 'charged', str(credits)) end
  redis.call('ZREM', names.running, call_id)
end

-- Ends an open lease: gives back what it held, charges `tokens` and, of each owner, at most what it holds of `price`.
-- Returns what the key and what the team were charged.
local function close(lease, leases, names, key_id, call_id, held, tokens, price, now)
  local credits, team_credits = math.min(price, held.credits), 0
  release('key', names, held, held.drawn, held.credits, tokens, credits, call_id, now)
  if names.team then
    team_credits = math.min(price, held.team_credits)
    release('team', names.team, held, held.team_drawn, held.team_credits, tokens, team_credits, call_id, now)
  end
  redis.call('ZREM', leases, key_id .. ':' .. call_id)
  redis.call('HSET', lease, 'state', 'settled')
  redis.call('HDEL', lease, 'detail')
  redis.call('PEXPIRE', lease, LEASE_MEMORY_MS)
  return credits, team_credits
end

-- The one place that writes a usage event, always beside the charge it reports. Fields as in core/usage.py.
local function emit(stream, key_id, call_id, held, prompt, completion, credits, team_credits, estimated, detail)
  redis.call('XADD', stream, '*', 'v', '1', 'id', call_id, 'key', key_id, 'team', held.team, 'at', held.at,
    'month', held.month, 'prompt', str(prompt), 'completion', str(completion), 'credits', str(credits),
    'team_credits', str(team_credits), 'estimated', estimated, 'detail', detail)
end
