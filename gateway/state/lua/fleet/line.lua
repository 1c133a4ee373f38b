--[[
  The waiting line: fair between keys by tokens served, weighted.

  A key's virtual time is the tokens it was served while others waited, divided by its weight. The next free slot goes to
  the key with the least, and of its calls to the first. A key that was away begins where the line is, so nobody saves up.

  line      key -> virtual time, of those that wait
  places    "<key> <model> <number> <id>", all of score 0: in order of keys, models, arrival
  arrivals  "<model> <number> <id>", all of score 0: in order of models, arrival
  waiting   id -> JSON of what the call asks (slots.lua), with its `place`
  patience  id -> until when its replica has said that the client is there (ms)
  served    key -> virtual time; ":now" -> that of the line; ":arrivals" -> how many calls have ever waited
  depths    model -> calls that wait
]]

local PATIENCE_MS = 4000   -- a waiting call nobody has asked for in so long is forgotten
local KEYS_MAX = 1024      -- keys looked at for one grant; the others ask for themselves, every second
local WAITED_MAX = 64      -- models that are waited for, looked at
local SAMPLE_MAX = 4       -- calls that tell whether those for a model can have a slot at all
local AHEAD_MAX = 64       -- keys counted for a position
local MODELS_MAX = 16      -- models of one key looked at
local FRONT_MAX = 8        -- first calls of one key and model: a slot is offered to them, and among them a node's memory
                           -- may choose
local LOOKED_MAX = 256     -- waiting calls looked at in one call of a function
local KIN_MS = 2000        -- unless the first of them has waited so long
local GRANTS_MAX = 64      -- in one call of a function
local OUTAGE_MS = 5000     -- replicas ask twice a second: if none has for so long, Redis was away
local SEEN_MS = 1000       -- how exactly it is known when the last one did
local LEASES_MAX = 20000   -- prolonged after an outage
local SERVED_S = 600       -- how long virtual times are kept when nobody waits

local function virtual(f, key)
  return tonumber(redis.call('HGET', f.served, key) or '') or 0
end

-- Adds tokens to what a key was served; below zero takes some back.
local function charge(f, key, tokens)
  local at = string.format('%.3f', virtual(f, key) + tokens)
  redis.call('HSET', f.served, key, at)
  redis.call('EXPIRE', f.served, SERVED_S)
  redis.call('ZADD', f.line, 'XX', at, key)
end

local function join(f, id, ask, now)
  local number = string.format('%016.0f', redis.call('HINCRBY', f.served, ':arrivals', 1))
  ask.since = now
  ask.place = ask.key .. ' ' .. ask.model .. ' ' .. number .. ' ' .. id
  redis.call('EXPIRE', f.served, SERVED_S)
  redis.call('ZADD', f.places, 0, ask.place)
  redis.call('ZADD', f.arrivals, 0, string.match(ask.place, '^%S+ (.+)$'))
  redis.call('HSET', f.waiting, id, cjson.encode(ask))
  redis.call('ZADD', f.patience, now + PATIENCE_MS, id)
  redis.call('HINCRBY', f.depths, ask.model, 1)
  if not redis.call('ZSCORE', f.line, ask.key) then
    local at = string.format('%.3f', math.max(virtual(f, ask.key), virtual(f, ':now')))
    redis.call('HSET', f.served, ask.key, at)
    redis.call('ZADD', f.line, at, ask.key)
  end
end

-- Takes a call out of the line. Returns what it asked, or nil.
local function forget(f, id)
  local packed = redis.call('HGET', f.waiting, id)
  if not packed then return nil end
  local ask = cjson.decode(packed)
  redis.call('HDEL', f.waiting, id)
  redis.call('ZREM', f.patience, id)
  redis.call('ZREM', f.places, ask.place)
  redis.call('ZREM', f.arrivals, string.match(ask.place, '^%S+ (.+)$'))
  if redis.call('HINCRBY', f.depths, ask.model, -1) <= 0 then redis.call('HDEL', f.depths, ask.model) end
  local more = redis.call('ZRANGEBYLEX', f.places, '[' .. ask.key .. ' ', '(' .. ask.key .. '!', 'LIMIT', 0, 1)
  if #more == 0 then redis.call('ZREM', f.line, ask.key) end
  return ask
end

-- The first calls for each of `models` that a key waits for: lists of ids.
local function fronts(f, key, models)
  local from, found = '[' .. key .. ' ', {}
  for _ = 1, MODELS_MAX do
    local front, first = {}, nil
    for _, place in ipairs(redis.call('ZRANGEBYLEX', f.places, from, '(' .. key .. '!', 'LIMIT', 0, FRONT_MAX)) do
      local model, id = string.match(place, '^%S+ (%S+) %d+ (%S+)$')
      first = first or model
      if model == first then front[#front + 1] = id end
    end
    if not first then break end
    if models[first] then found[#found + 1] = front end
    from = '(' .. key .. ' ' .. first .. '!'
  end
  return found
end

local function asked(f, id)
  local packed = redis.call('HGET', f.waiting, id)
  return packed and cjson.decode(packed)
end

-- Of the first calls of a key for a model, the one that `candidate` has the beginning of in mind; else the one it is for.
local function kin(f, front, id, ask, candidate, now)
  if now - ask.since > KIN_MS then return id, ask, candidate end
  local loads = needs_load(f, candidate, ask.model, now)
  for _, one in ipairs(front) do
    local other = asked(f, one)
    if other and other.affinity == candidate.name then
      for _, its in ipairs(other.candidates) do
        if its.name == candidate.name and its.equal == 1 and needs_load(f, its, ask.model, now) == loads then
          return one, other, its
        end
      end
    end
  end
  return id, ask, candidate
end

-- The line has come to a key: who joins it now begins there.
local function advance(f, key)
  local at = math.max(virtual(f, ':now'), virtual(f, key))
  redis.call('HSET', f.served, ':now', string.format('%.3f', at))
end

-- The slot goes to a waiting call, whose replica is told.
local function give(f, id, ask, candidate, now, seen)
  advance(f, ask.key)
  local charged = ask.tokens / ask.weight
  local held = take(f, id, ask, candidate, now, CLAIM_MS, charged, seen)
  charge(f, ask.key, charged)
  forget(f, id)
  redis.call('PUBLISH', ask.replica, id .. ' ' .. held.b .. ' ' .. held.l .. ' ' .. held.h)
end

-- The waiting call of `front` that can have a slot now, what it asks, and where; nil if none can. `vain` has those that
-- were found to get none: as slots are given there is ever less for them.
local function able(f, front, now, seen, vain)
  for _, one in ipairs(front) do
    if not vain[one] and vain.left > 0 then
      vain.left = vain.left - 1
      local ask = asked(f, one)
      local depth = ask and tonumber(redis.call('HGET', f.depths, ask.model) or '') or 0
      local candidate = ask and choose(f, ask, depth, now, seen)
      if candidate then return one, ask, candidate end
      vain[one] = true
    end
  end
  return nil
end

-- The models of which a waiting call can have a slot, as far as the first of them tell. Nil for none.
local function servable(f, now, seen)
  local found, any = {}, nil
  for i, model in ipairs(redis.call('HKEYS', f.depths)) do
    if i > WAITED_MAX then break end
    local depth = tonumber(redis.call('HGET', f.depths, model))
    for _, one in ipairs(redis.call('ZRANGEBYLEX', f.arrivals, '[' .. model .. ' ', '(' .. model .. '!', 'LIMIT', 0,
      SAMPLE_MAX)) do
      local ask = asked(f, string.match(one, '(%S+)$'))
      if ask and choose(f, ask, depth, now, seen) then
        found[model], any = true, found
        break
      end
    end
  end
  return any
end

local function give_one(f, now, seen, vain)
  local models = servable(f, now, seen)
  if not models then return false end
  for _, key in ipairs(redis.call('ZRANGE', f.line, 0, KEYS_MAX - 1)) do
    for _, front in ipairs(fronts(f, key, models)) do
      local id, ask, candidate = able(f, front, now, seen, vain)
      if id then
        id, ask, candidate = kin(f, front, id, ask, candidate, now)
        give(f, id, ask, candidate, now, seen)
        return candidate.name
      end
    end
  end
  return nil
end

-- Gives free slots to those that wait, as long as there are both. `freed`: by node, the slots that are free now and were
-- not before; when those are given, nobody is left who could have one.
local function grant(f, now, freed)
  if redis.call('ZCARD', f.line) == 0 then return end
  local seen, vain = {}, {left = LOOKED_MAX}
  for _ = 1, GRANTS_MAX do
    local backend = give_one(f, now, seen, vain)
    if not backend then return end
    if freed and freed[backend] then
      freed[backend] = freed[backend] > 1 and freed[backend] - 1 or nil
      if not next(freed) then return end
    end
  end
end

-- While nobody could ask anything, nobody could renew anything either: that time counts for no lease.
local function forgive(f, now)
  local seen = tonumber(redis.call('HGET', f.registry, 'seen') or '') or now
  if now - seen > OUTAGE_MS then
    local gap = now - seen
    for _, id in ipairs(redis.call('ZRANGE', f.slots, 0, LEASES_MAX)) do redis.call('ZINCRBY', f.slots, gap, id) end
    for _, id in ipairs(redis.call('ZRANGE', f.patience, 0, LEASES_MAX)) do redis.call('ZINCRBY', f.patience, gap, id) end
  end
  if seen == now or math.abs(now - seen) > SEEN_MS then redis.call('HSET', f.registry, 'seen', str(now)) end
end

-- Ends slots and places that nobody has renewed: their replicas are dead, or their clients.
local function sweep(f, now)
  local freed = false
  forgive(f, now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', f.patience, '-inf', now, 'LIMIT', 0, SWEPT_MAX)) do
    if not forget(f, id) then redis.call('ZREM', f.patience, id) end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', f.slots, '-inf', now, 'LIMIT', 0, SWEPT_MAX)) do
    if free(f, id, now) then freed = true else redis.call('ZREM', f.slots, id) end
  end
  return freed
end

local function prefix_range(key, model)
  return '[' .. key .. ' ' .. model .. ' ', '(' .. key .. ' ' .. model .. '!'
end

-- About how many calls get a slot before the next, or a given, call of `ask`, and it: 1 is the first.
local function position(f, ask)
  local from, to = prefix_range(ask.key, ask.model)
  local before = redis.call('ZLEXCOUNT', f.places, from, ask.place and '(' .. ask.place or to)
  local mine = math.max(virtual(f, ask.key), virtual(f, ':now'))
  local place = before + 1
  local line = redis.call('ZRANGE', f.line, 0, AHEAD_MAX - 1, 'WITHSCORES')
  for i = 1, #line, 2 do
    if line[i] ~= ask.key then
      local count = redis.call('ZLEXCOUNT', f.places, prefix_range(line[i], ask.model))
      local at = tonumber(line[i + 1])
      local first = at < mine or (at == mine and line[i] < ask.key)
      place = place + math.min(count, before + (first and 1 or 0))
    end
  end
  return place
end
