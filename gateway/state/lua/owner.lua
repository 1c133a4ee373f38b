--[[
  Who has limits: a key and, where it belongs to one, its team. Their records are what Postgres knows (publish.lua).

  Record: digests "<hex>:<until ms or 0> …", enabled, expires, team, scopes, allow "<glob> …", networks "<lo>-<hi> …",
  multiplier (thousandths), weight (in the waiting line); of a team only what follows: rpm, burst, tpm, concurrency, monthly, models "<glob> <rpm>
  <tpm>;…", metered, granted, shadow. An empty text is no limit.
]]

-- in the order in which `owner_from` takes them, and `known`: a key's own, then, from KEY_LIMITS on, its limits
local LIMIT_FIELDS = {'version', 'rpm', 'burst', 'tpm', 'concurrency', 'monthly', 'models', 'metered', 'granted', 'shadow'}
local KEY_FIELDS = {'digests', 'enabled', 'expires', 'team', 'scopes', 'allow', 'networks', 'multiplier', 'weight'}
local KEY_LIMITS = #KEY_FIELDS + 1
for i = 1, #LIMIT_FIELDS do KEY_FIELDS[#KEY_FIELDS + 1] = LIMIT_FIELDS[i] end

-- The keys of a call's owners, which end its KEYS from `first` on.
local function owners_at(keys, first)
  local names = {key = keys[first], account = keys[first + 1], buckets = keys[first + 2], running = keys[first + 3],
    outputs = keys[first + 4]}
  if keys[first + 5] then
    names.team = {key = keys[first + 5], account = keys[first + 6], buckets = keys[first + 7], running = keys[first + 8]}
  end
  return names
end

-- The limits of one owner, from its fields; nil while Redis does not have it.
local function owner_from(whose, names, version, rpm, burst, tpm, concurrency, monthly, models, metered, granted, shadow)
  if not version then return nil end
  return {whose = whose, names = names, rpm = tonumber(rpm), burst = tonumber(burst), tpm = tonumber(tpm),
    concurrency = tonumber(concurrency), monthly = tonumber(monthly), models = models or '',
    metered = metered == '1', granted = tonumber(granted) or 0, shadow = shadow == '1'}
end

local function owner_of(whose, names)
  return owner_from(whose, names, unpack(redis.call('HMGET', names.key, unpack(LIMIT_FIELDS))))
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

-- Whether one of a list of words fits `what`, as `fits(word, what)` says; an empty list allows everything.
local function allows(list, fits, what)
  if list == '' then return true end
  for word in string.gmatch(list, '%S+') do
    if fits(word, what) then return true end
  end
  return false
end

local function equals(word, other)
  return word == other
end

-- Whether an address is in a network "<lo>-<hi>".
local function covers(network, address)
  return string.sub(network, 1, 32) <= address and address <= string.sub(network, 34)
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
  local seen = redis.call('HMGET', names.key, unpack(KEY_FIELDS))
  local digests, enabled, expires, its_team, scopes, allow, networks, multiplier, weight = unpack(seen)
  if (digests or '') == '' then
    if redis.call('EXISTS', ready) == 0 then return nil, 'not_ready' end
    return nil, 'unknown'
  end
  local digest = ''
  if presented then
    digest, expires = digest_of(digests, presented, now), tonumber(expires) or 0
    if not digest or enabled ~= '1' or (expires > 0 and expires * 1000 <= now) then return nil, 'unknown' end
    if not allows(networks or '', covers, address) then return nil, 'network' end
    if scope ~= '' and not allows(scopes or '', equals, scope) then return nil, 'scope' end
  end
  its_team = its_team or ''
  if its_team ~= team then return nil, 'team', its_team end
  local who = {key = owner_from('key', names, unpack(seen, KEY_LIMITS)), digest = digest, allow = allow or '',
    scopes = scopes or '', team_id = team, multiplier = tonumber(multiplier) or 1000, weight = tonumber(weight) or 1}
  who.owners = {who.key}
  if team ~= '' then
    who.owners[2] = owner_of('team', names.team)
    if not who.owners[2] then return nil, 'not_ready' end
  end
  return who
end

-- Every bucket that a call to `model` draws from, as it is now; without a model, all there are; with a kind, only those.
local function buckets_for(owner, model, now, only)
  local found = {}
  local function add(kind, what, limit, capacity)
    if limit and (not only or kind == only) then
      found[#found + 1] = bucket_of(kind, kind .. what, limit, capacity or limit, now)
    end
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

-- The buckets of one kind, for a call that ends: no more of the record is read. None while Redis does not have it.
local function buckets_of(names, kind, model, now)
  local rpm, burst, tpm, models = unpack(redis.call('HMGET', names.key, 'rpm', 'burst', 'tpm', 'models'))
  local limits = {names = names, rpm = tonumber(rpm), burst = tonumber(burst), tpm = tonumber(tpm), models = models or ''}
  return buckets_for(limits, model, now, kind)
end

-- What it has spent and holds this month: fields of its account.
local function account_of(owner, month)
  local seen = redis.call('HMGET', owner.names.account, 'charged', 'credit_held', 'spent:' .. month, 'held:' .. month)
  return {charged = tonumber(seen[1]), credit_held = tonumber(seen[2]) or 0, spent = tonumber(seen[3]) or 0,
    held = tonumber(seen[4]) or 0}
end

-- Adds to each of `fields` of an account what is in its place in `by`, in one write. 0 is not written: a figure that is
-- there is taken for one that came from Postgres.
local function add_to(key, fields, by)
  local seen, sums = redis.call('HMGET', key, unpack(fields)), {}
  for i, field in ipairs(fields) do
    if by[i] ~= 0 then
      sums[#sums + 1] = field
      sums[#sums + 1] = (tonumber(seen[i]) or 0) + by[i]
    end
  end
  if sums[1] then redis.call('HSET', key, unpack(sums)) end
end

local function running_of(owner, now)
  return redis.call('ZCOUNT', owner.names.running, '(' .. str(math.floor(now / 1000)), '+inf')
end
