--[[
  Who has limits: a key and, where it belongs to one, its team. Their records are what Postgres knows (publish.lua).

  Record: digests "<hex>:<until ms or 0> …", enabled, expires, team, scopes, allow "<glob> …", networks "<lo>-<hi> …",
  multiplier (thousandths), weight (in the waiting line); of a team only what follows: rpm, burst, tpm, concurrency, monthly, models "<glob> <rpm>
  <tpm>;…", metered, granted, shadow. An empty text is no limit.
]]

local KEY_FIELDS = {'digests', 'enabled', 'expires', 'team', 'scopes', 'allow', 'networks', 'multiplier', 'weight'}
local LIMIT_FIELDS = {'rpm', 'burst', 'tpm', 'concurrency', 'monthly', 'models', 'metered', 'granted', 'shadow', 'version'}

-- The keys of a call's owners, which end its KEYS from `first` on.
local function owners_at(keys, first)
  local names = {key = keys[first], account = keys[first + 1], buckets = keys[first + 2], running = keys[first + 3],
    outputs = keys[first + 4]}
  if keys[first + 5] then
    names.team = {key = keys[first + 5], account = keys[first + 6], buckets = keys[first + 7], running = keys[first + 8]}
  end
  return names
end

local function record(key, fields)
  local values, found = redis.call('HMGET', key, unpack(fields)), {}
  for i, field in ipairs(fields) do found[field] = values[i] or '' end
  return found
end

-- The limits of one owner; nil while Redis does not have it.
local function owner_of(whose, names)
  local seen = record(names.key, LIMIT_FIELDS)
  if seen.version == '' then return nil end
  return {whose = whose, names = names, rpm = tonumber(seen.rpm), burst = tonumber(seen.burst), tpm = tonumber(seen.tpm),
    concurrency = tonumber(seen.concurrency), monthly = tonumber(seen.monthly), models = seen.models,
    metered = seen.metered == '1', granted = tonumber(seen.granted) or 0, shadow = seen.shadow == '1', would = {}}
end

-- Whether `text` fits `glob`, in which `*` stands for any number of characters.
local function matches(glob, text)
  local g, t, star, mark = 1, 1, nil, nil
  while t <= #text do
    local c = string.byte(glob, g)
    if c == 42 then star, mark, g = g, t, g + 1
    elseif c == string.byte(text, t) then g, t = g + 1, t + 1
    elseif star then mark = mark + 1; g, t = star + 1, mark
    else return false end
  end
  while string.byte(glob, g) == 42 do g = g + 1 end
  return g > #glob
end

-- Whether `word`, or what it matches, is in a list of words; an empty list allows everything.
local function allows(list, fits)
  if list == '' then return true end
  for word in string.gmatch(list, '%S+') do
    if fits(word) then return true end
  end
  return false
end

-- The stored digest that one of the presented ones equals and that is still valid.
local function digest_of(stored, presented, now)
  for digest, until_ms in string.gmatch(stored, '(%x+):(%d+)') do
    local valid = until_ms == '0' or tonumber(until_ms) * 1000 > now
    if valid and string.find(presented, digest, 1, true) then return digest end
  end
  return nil
end

-- {key, team, digest} or nil and the reason: 'not_ready' while Redis may lack records, 'unknown' for all that earns a
-- 401, 'network', 'scope'; 'team' and which, when the caller has named the keys of another team.
-- presented: the digests that a presented key may have; nil when it is an operator who asks about the key.
local function known(ready, names, presented, address, scope, team, now)
  local seen = record(names.key, KEY_FIELDS)
  if seen.digests == '' then
    if redis.call('EXISTS', ready) == 0 then return nil, 'not_ready' end
    return nil, 'unknown'
  end
  local digest = ''
  if presented then
    digest = digest_of(seen.digests, presented, now)
    local expires = tonumber(seen.expires) or 0
    if not digest or seen.enabled ~= '1' or (expires > 0 and expires * 1000 <= now) then return nil, 'unknown' end
    local within = function(range) return string.sub(range, 1, 32) <= address and address <= string.sub(range, 34) end
    if not allows(seen.networks, within) then return nil, 'network' end
    if scope ~= '' and not allows(seen.scopes, function(word) return word == scope end) then return nil, 'scope' end
  end
  if seen.team ~= team then return nil, 'team', seen.team end
  local who = {key = owner_of('key', names), digest = digest, allow = seen.allow, scopes = seen.scopes, team_id = team,
    multiplier = tonumber(seen.multiplier) or 1000, weight = tonumber(seen.weight) or 1}
  who.owners = {who.key}
  if team ~= '' then
    who.owners[2] = owner_of('team', names.team)
    if not who.owners[2] then return nil, 'not_ready' end
  end
  return who
end

-- Every bucket that a call to `model` draws from, as it is now; without a model, all there are.
local function buckets_for(owner, model, now)
  local found = {}
  local function add(kind, what, limit, capacity)
    if limit then found[#found + 1] = bucket_of(kind, kind .. what, limit, capacity or limit) end
  end
  add('requests', '', owner.rpm, owner.burst)
  add('tokens', '', owner.tpm)
  for glob, rpm, tpm in string.gmatch(owner.models, '(%S+) (%d*) (%d*);') do
    if not model or matches(glob, model) then
      add('requests', ' ' .. glob, tonumber(rpm))
      add('tokens', ' ' .. glob, tonumber(tpm))
    end
  end
  fill(owner.names.buckets, found, now)
  return found
end

-- What it has spent and holds this month: fields of its account.
local function account_of(owner, month)
  local seen = redis.call('HMGET', owner.names.account, 'charged', 'credit_held', 'spent:' .. month, 'held:' .. month)
  return {charged = tonumber(seen[1]), credit_held = tonumber(seen[2]) or 0, spent = tonumber(seen[3]) or 0,
    held = tonumber(seen[4]) or 0}
end

local function running_of(owner, now)
  return redis.call('ZCOUNT', owner.names.running, '(' .. str(math.floor(now / 1000)), '+inf')
end
