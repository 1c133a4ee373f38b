--[[
  Let a call in and reserve what it may take, or refuse it and write nothing.

  KEYS[1] ready  [2] prices  [3] lease  [4] leases  [5] usage  [6] dead  [7..11] key, account, buckets, running, outputs
      [12..15] team, team account, team buckets, team running; only when ARGV[3] names one
  ARGV[1] call id  [2] key id  [3] team that the key is thought to be in, or ''  [4] digests of the presented key, in hex
  ARGV[5] address of the caller, 32 hex digits  [6] scope it needs
  ARGV[7] objection: what the replica already knows against the call; said only to someone who may make it
  ARGV[8] model                    [9] prompt tokens at most
  ARGV[10] prompt tokens expected, which the reaper charges when nothing better is known
  ARGV[11] output tokens wanted at most   [12] lease, ms   [13] '1' in shadow: count refusals, refuse nobody
  ARGV[14] detail (JSON) of the usage row that the reaper writes if the replica dies
  ARGV[15] bytes that the shard's events may take, in both streams

  Returns {1, '', '', 0, admitted at ms, output tokens granted, <levels>, what a shadow would have refused it for,
              weight of the key in the waiting line}
              in; asking again with one call id is answered alike
          {0, reason, whose limit, wait ms or -1, 0, 0, <levels>, '', 1}  refused; one reason, one wait
          {-1, team}                                        the key is in this team: ask again with its keys
  <levels> = requests limit, left, ms until full; tokens limit, left, ms until full; -1 where there is no limit
]]
local LINE_FULL = 'line_full'   -- the one objection that is no news to somebody who is over a limit

-- Takes of one owner what the call holds until it ends. `...`: more fields of its account, and their values.
local function take(owner, verdict, tokens, call_id, deadline, now, ...)
  for _, bucket in ipairs(owner.buckets) do
    bucket.level = bucket.level - (bucket.kind == 'tokens' and verdict.expected or 1) * bucket.den
    if owner.shadow then bucket.level = math.max(bucket.level, 0 - bucket.full) end  -- or leaving it would block for long
  end
  keep(owner.names.buckets, owner.buckets, now)
  redis.call('HSET', owner.names.account, 'held:' .. verdict.month, owner.account.held + tokens,
    'credit_held', owner.account.credit_held + owner.credits, ...)
  redis.call('ZADD', owner.names.running, deadline, call_id)
  outlive(owner.names.running, LEASE_MEMORY_MS)
  if owner.would then redis.call('HINCRBY', owner.names.account, 'shadow:' .. owner.would, 1) end
end

local function admit(KEYS, ARGV)
  local now = clock()
  local ask = {prices = KEYS[2], model = ARGV[8], prompt_max = whole(ARGV[9], 'prompt'),
    prompt_expected = whole(ARGV[10], 'prompt expected'), output = whole(ARGV[11], 'output')}
  local lease_ms = whole(ARGV[12], 'lease')
  local names = owners_at(KEYS, 7)

  local who, why, team = known(KEYS[1], names, ARGV[4], ARGV[5], ARGV[6], ARGV[3], now)
  if why == 'team' then return {-1, team} end
  local before = redis.call('HMGET', KEYS[3], 'state', 'at', 'output')
  if not who and before[1] ~= 'open' then return {0, why, 'key', -1, 0, 0, -1, -1, 0, -1, -1, 0, '', 1} end
  if not who then return {1, '', '', 0, tonumber(before[2]), tonumber(before[3]), -1, -1, 0, -1, -1, 0, '', 1} end
  if ARGV[13] == '1' then
    for _, owner in ipairs(who.owners) do owner.shadow = true end
  end
  local verdict = weigh(who, ask, now)
  local function answer(granted, reason, whose, wait, at, output, shadow)
    local rl, rr, rt = report(who.owners, 'requests', now)
    local tl, tr, tt = report(who.owners, 'tokens', now)
    return {granted, reason, whose, wait, at, output, rl, rr, rt, tl, tr, tt, shadow or '', granted == 1 and who.weight or 1}
  end

  if before[1] == 'open' then return answer(1, '', '', 0, tonumber(before[2]), tonumber(before[3])) end
  if before[1] then return answer(0, 'ended', 'key', -1, 0, 0) end
  if not allows(who.allow, matches, ask.model) then
    return answer(0, 'model', 'key', -1, 0, 0)
  end
  if ARGV[7] ~= '' and ARGV[7] ~= LINE_FULL then return answer(0, ARGV[7], 'key', -1, 0, 0) end
  if backlogged(KEYS[5], KEYS[6], whole(ARGV[15], 'bytes')) then return answer(0, 'backlog', 'key', -1, 0, 0) end
  if verdict.reason then return answer(0, verdict.reason, verdict.whose or 'key', verdict.wait, 0, 0) end
  if ARGV[7] ~= '' then return answer(0, ARGV[7], 'key', -1, 0, 0) end

  -- nothing is refused any more; from here on only writes
  local at_ms, team_owner = math.floor(now / 1000), who.owners[2]
  local deadline, held_tokens = at_ms + lease_ms, ask.prompt_max + verdict.output
  take(who.key, verdict, held_tokens, ARGV[1], deadline, now, 'used:' .. string.sub(who.digest, 1, 8), at_ms)
  if team_owner then take(team_owner, verdict, held_tokens, ARGV[1], deadline, now) end
  redis.call('ZADD', KEYS[4], deadline, ARGV[2] .. ':' .. ARGV[1])
  local price = verdict.price
  redis.call('HSET', KEYS[3], 'state', 'open', 'at', at_ms, 'month', verdict.month, 'team', who.team_id,
    'model', ask.model, 'tokens', held_tokens, 'expected', verdict.expected,
    'drawn', drawn_of(who.key.buckets), 'team_drawn', team_owner and drawn_of(team_owner.buckets) or '',
    'credits', who.key.credits, 'team_credits', team_owner and team_owner.credits or 0,
    'price', str(price.request) .. ' ' .. str(price.prompt) .. ' ' .. str(price.completion),
    'output', verdict.output, 'prompt', ask.prompt_expected, 'completion', 0, 'detail', ARGV[14])
  return answer(1, '', '', 0, at_ms, verdict.output, team_owner and team_owner.would or who.key.would)
end
redis.register_function('LIBRARY_admit', admit)
