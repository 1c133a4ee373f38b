--[[
  What a call meets: every limit of every owner, all or none. Reads only; admit.lua writes what it says.

  Reasons that waiting cannot mend come first, then the one with the longest wait. An owner in shadow refuses nobody:
  the first thing it would have said is kept in `would`.
]]

-- Reads what each owner has for a call to `model`: buckets, account. Returns the price of the call, nothing for those who
-- pay none; nil while Redis may lack figures: `charged` comes with the first hydration, `spent` with it.
local function read_owners(who, ask, month, now)
  local metered, hydrated = false, true
  for _, owner in ipairs(who.owners) do
    owner.buckets, owner.account = buckets_for(owner, ask.model, now), account_of(owner, month)
    metered, hydrated = metered or owner.metered, hydrated and owner.account.charged
  end
  local price = metered and price_for(ask.prices, ask.model, who.multiplier, now)
  if not hydrated or (metered and not price) then return nil end
  return price or {request = 0, prompt = 0, completion = 0}
end

-- What waiting cannot mend. `object` hears of each reason; leaves what is left of credits and month with each owner.
local function weigh_for_good(who, ask, least, object)
  for _, owner in ipairs(who.owners) do
    for _, bucket in ipairs(owner.buckets) do
      if bucket.kind == 'tokens' and ask.prompt_expected > bucket.capacity then object(owner, 'too_large', -1) end
    end
    if owner.monthly and ask.prompt_max >= owner.monthly then object(owner, 'too_large', -1) end
  end
  for _, owner in ipairs(who.owners) do
    owner.credit = owner.metered and owner.granted - owner.account.charged
    if owner.metered and owner.credit < least then object(owner, 'credits', -1) end
  end
  for _, owner in ipairs(who.owners) do
    owner.unspent = owner.monthly and owner.monthly - owner.account.spent - ask.prompt_max
    if owner.unspent and owner.unspent < 1 then object(owner, 'month', -1) end
  end
end

-- What waiting mends, for one owner; lowers the output to what it can still hold.
local function weigh_for_now(owner, ask, verdict, least, object, now)
  if owner.metered then
    local free = owner.credit - owner.account.credit_held
    if free < least then object(owner, 'held', HELD_WAIT_MS)
    elseif verdict.price.completion > 0 and not owner.shadow then
      local rest = free - cost(verdict.price, ask.prompt_max, 0)
      verdict.output = math.min(verdict.output, affordable(rest, verdict.price.completion))
    end
  end
  if owner.unspent then
    local unheld = owner.unspent - owner.account.held
    if unheld < 1 then object(owner, 'held', HELD_WAIT_MS)
    elseif not owner.shadow then verdict.output = math.min(verdict.output, unheld) end
  end
  if owner.concurrency and running_of(owner, now) >= owner.concurrency then object(owner, 'concurrency', HELD_WAIT_MS) end
  for _, bucket in ipairs(owner.buckets) do
    local wait = wait_ms(bucket, bucket.kind == 'tokens' and verdict.expected or 1, now)
    if wait > 0 then object(owner, bucket.kind, wait) end
  end
end

-- What is taken of tokens a minute: never more than a full bucket holds, or a talkative key would wait for ever.
local function expected_of(who, ask)
  local expected = ask.prompt_expected + math.min(ask.output, output_expected(who.key.names.outputs, ask.model))
  for _, owner in ipairs(who.owners) do
    for _, bucket in ipairs(owner.buckets) do
      if bucket.kind == 'tokens' and ask.prompt_expected <= bucket.capacity then
        expected = math.min(expected, bucket.capacity)
      end
    end
  end
  return expected
end

-- ask: model, prompt_max, prompt_expected, output (tokens), prices (key). Returns {reason, whose, wait, output,
-- expected, price, month}; reason is nil for a call that may come in. Of each owner it leaves buckets, account, credits.
local function weigh(who, ask, now)
  local month = month_of(now)
  local price = read_owners(who, ask, month, now)
  if not price then return {reason = 'not_ready', wait = -1, output = ask.output, month = month} end
  local verdict = {wait = 0, output = ask.output, month = month, price = price, expected = expected_of(who, ask)}

  local function object(owner, reason, wait)
    if owner.shadow then owner.would = owner.would or reason return end
    if verdict.wait < 0 or (wait >= 0 and verdict.reason and wait <= verdict.wait) then return end
    verdict.reason, verdict.whose, verdict.wait = reason, owner.whose, wait
  end

  local least = cost(price, ask.prompt_max, math.min(1, ask.output))
  weigh_for_good(who, ask, least, object)
  for _, owner in ipairs(who.owners) do weigh_for_now(owner, ask, verdict, least, object, now) end
  -- what each owner has to hold for it; in shadow no more than there is, so that no balance goes below zero
  local worst = cost(price, ask.prompt_max, verdict.output)
  for _, owner in ipairs(who.owners) do
    owner.credits = owner.metered and math.max(0, math.min(worst, owner.credit - owner.account.credit_held)) or 0
  end
  return verdict
end

-- {limit, left, ms until full} of the bucket of this kind that has least left; -1 where there is none.
local function report(owners, kind, now)
  local tightest, least
  for _, owner in ipairs(owners) do
    for _, bucket in ipairs(owner.buckets) do
      local has = bucket.kind == kind and left(bucket)
      if has and (not least or has < least) then tightest, least = bucket, has end
    end
  end
  if not tightest then return -1, -1, 0 end
  return tightest.limit, least, wait_ms(tightest, tightest.capacity, now)
end

-- What one owner may do and has used: as inspect.lua returns it; nil while Redis may lack figures.
local function told(owner, month, now)
  local account = account_of(owner, month)
  if not account.charged then return nil end
  owner.buckets = buckets_for(owner, nil, now)
  local own, models = {buckets = {}}, {}
  for _, bucket in ipairs(owner.buckets) do
    if bucket.field == bucket.kind then own.buckets[#own.buckets + 1] = bucket
    else models[#models + 1] = {bucket.field, bucket.limit, left(bucket), wait_ms(bucket, bucket.capacity, now)} end
  end
  local rl, rr, rt = report({own}, 'requests', now)
  local tl, tr, tt = report({own}, 'tokens', now)
  return {owner.monthly or -1, account.spent, account.held, owner.metered and owner.granted or -1, account.charged,
    account.credit_held, owner.concurrency or -1, running_of(owner, now), rl, rr, rt, tl, tr, tt, models,
    redis.call('HGETALL', owner.names.account)}
end
