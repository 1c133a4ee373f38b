--[[
  What admission would say of a call, and what each limit has before and after it. Changes nothing.

  KEYS[1] ready  [2] prices  [3] usage  [4] dead  [5..9] key, account, buckets, running, outputs
      [10..13] as in admit.lua
  ARGV[1] team, or ''  [2] model  [3] prompt tokens at most  [4] prompt tokens expected  [5] output tokens wanted at most
  ARGV[6] bytes, as the last of admit.lua

  Returns {1 or 0, reason, whose, wait ms or -1, output tokens granted, credits it would hold, <limits>}
          {-1, team} as admit.lua;  {0, reason} for a key that Redis does not have
  <limits> = a list of {whose, what, limit, left, needed, left after, wait ms}
]]
local function explain(KEYS, ARGV)
  local now = clock()
  local names = owners_at(KEYS, 5)
  local ask = {prices = KEYS[2], model = ARGV[2], prompt_max = whole(ARGV[3], 'prompt'),
    prompt_expected = whole(ARGV[4], 'prompt expected'), output = whole(ARGV[5], 'output')}
  local who, why, team = known(KEYS[1], names, nil, '', '', ARGV[1], now)
  if why == 'team' then return {-1, team} end
  if not who then return {0, why} end
  local verdict = weigh(who, ask, now)
  if not verdict.price then return {0, verdict.reason} end
  if backlogged(KEYS[3], KEYS[4], whole(ARGV[6], 'bytes')) then
    verdict.reason, verdict.whose, verdict.wait = 'backlog', 'key', -1
  end
  if not allows(who.allow, matches, ask.model) then
    verdict.reason, verdict.whose, verdict.wait = 'model', 'key', -1
  end
  local limits, worst = {}, cost(verdict.price, ask.prompt_max, verdict.output)
  for _, owner in ipairs(who.owners) do
    local function add(what, limit, free, needed, wait)
      limits[#limits + 1] = {owner.whose, what, limit, free, needed, free - needed, wait}
    end
    for _, bucket in ipairs(owner.buckets) do
      local needed = bucket.kind == 'tokens' and verdict.expected or 1
      add(bucket.field, bucket.limit, math.floor(bucket.level / bucket.den), needed, wait_ms(bucket, needed, now))
    end
    if owner.concurrency then add('concurrency', owner.concurrency, owner.concurrency - running_of(owner, now), 1, 0) end
    if owner.monthly then
      local free = owner.monthly - owner.account.spent - owner.account.held
      add('month', owner.monthly, free, ask.prompt_max + verdict.output, 0)
    end
    if owner.metered then add('credits', owner.granted, owner.credit - owner.account.credit_held, worst, 0) end
  end
  return {verdict.reason and 0 or 1, verdict.reason or '', verdict.whose or '', verdict.wait, verdict.output, worst, limits}
end
redis.register_function{function_name = 'LIBRARY_explain', callback = explain, flags = {'no-writes'}}
