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
local PAGE_KEYS = 16       -- so many at once: mostly the first can have the slot
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

-- Whether nobody waits. If so, it stays so to the end of the function, where one call may join.
local function calm(f)
  f.calm = f.calm or redis.call('ZCARD', f.line) == 0
  return f.calm
end

-- How many wait for a model.
local function depth_of(f, model)
  return tonumber(redis.call('HGET', f.depths, model) or 0)
end

-- The virtual times of a key and of the line.
local function virtual(f, key)
  local at = redis.call('HMGET', f.served, key, ':now')
  return tonumber(at[1] or 0), tonumber(at[2] or 0)
end

-- Adds tokens to what a key was served; below zero takes some back. `turn`: the line has come to it, and who joins now
-- begins there.
local function charge(f, key, tokens, turn)
  local before, line = virtual(f, key)
  local at = string.format('%.3f', before + tokens)
  if turn then
    redis.call('HSET', f.served, key, at, ':now', string.format('%.3f', math.max(line, before)))
  else
    redis.call('HSET', f.served, key, at)
  end
  redis.call('EXPIRE', f.served, SERVED_S)
  redis.call('ZADD', f.line, 'XX', at, key)
end

local function join(f, id, ask, now)
  local number = string.format('%016.0f', redis.call('HINCRBY', f.served, ':arrivals', 1))
  ask.since = now
  ask.place = ask.key .. ' ' .. ask.model .. ' ' .. number .. ' ' .. id
  redis.call('EXPIRE', f.served, SERVED_S)
  redis.call('ZADD', f.places, 0, ask.place)
  redis.call('ZADD', f.arrivals, 0, ask.model .. ' ' .. number .. ' ' .. id)
  redis.call('HSET', f.waiting, id, cjson.encode(ask))
  redis.call('ZADD', f.patience, now + PATIENCE_MS, id)
  redis.call('HINCRBY', f.depths, ask.model, 1)
  if not redis.call('ZSCORE', f.line, ask.key) then
    local at = string.format('%.3f', math.max(virtual(f, ask.key)))
    redis.call('HSET', f.served, ask.key, at)
    redis.call('ZADD', f.line, at, ask.key)
  end
end

local function asked(f, id)
  local packed = redis.call('HGET', f.waiting, id)
  return packed and cjson.decode(packed)
end

-- Takes a call that asks this out of the line.
local function forget(f, id, ask)
  redis.call('HDEL', f.waiting, id)
  redis.call('ZREM', f.patience, id)
  redis.call('ZREM', f.places, ask.place)
  redis.call('ZREM', f.arrivals, string.match(ask.place, '^%S+ (.+)$'))
  if redis.call('HINCRBY', f.depths, ask.model, -1) <= 0 then redis.call('HDEL', f.depths, ask.model) end
  local more = redis.call('ZRANGEBYLEX', f.places, '[' .. ask.key .. ' ', '(' .. ask.key .. '!', 'LIMIT', 0, 1)
  if #more == 0 then redis.call('ZREM', f.line, ask.key) end
end

-- The next model that a key waits for, in their order, and the first of its calls for that: ids. Nil when there is none
-- after the model `last`.
local function front(f, key, last)
  local from = last and '(' .. key .. ' ' .. last .. '!' or '[' .. key .. ' '
  local ids, model = {}, nil
  for _, place in ipairs(redis.call('ZRANGEBYLEX', f.places, from, '(' .. key .. '!', 'LIMIT', 0, FRONT_MAX)) do
    local its, id = string.match(place, '^%S+ (%S+) %d+ (%S+)$')
    model = model or its
    if its == model then ids[#ids + 1] = id end
  end
  return model, ids
end

-- What a waiting call asks that may have been looked at already.
local function asked_again(f, id, seen)
  if seen.asks[id] == nil then seen.asks[id] = asked(f, id) end
  return seen.asks[id]
end

-- Of the first calls of a key for a model, the one that `candidate` has the beginning of in mind; else the one it is for.
local function kin(f, ids, id, ask, candidate, now, seen)
  if now - ask.since > KIN_MS then return id, ask, candidate end
  local loads = needs_load(candidate, ask.model, now, seen)
  for _, one in ipairs(ids) do
    local other = asked_again(f, one, seen)
    if other and other.affinity == candidate.name then
      look_at_loads(f, other.candidates, ask.model, seen)
      for _, its in ipairs(other.candidates) do
        if its.name == candidate.name and its.equal == 1 and needs_load(its, ask.model, now, seen) == loads then
          return one, other, its
        end
      end
    end
  end
  return id, ask, candidate
end

-- The slot goes to a waiting call, whose replica is told.
local function give(f, id, ask, candidate, now, seen)
  local charged = ask.tokens / ask.weight
  local held = take(f, id, ask, candidate, now, CLAIM_MS, charged, seen)
  charge(f, ask.key, charged, true)
  forget(f, id, ask)
  redis.call('PUBLISH', ask.replica, id .. ' ' .. held.b .. ' ' .. held.l .. ' ' .. held.h)
end

-- Which of these waiting calls for a model can have a slot now, what it asks, and where; nil if none can. `depth`: how
-- many wait for it. `vain` has those that were found to get none: as slots are given there is ever less for them.
local function able(f, ids, depth, now, seen, vain)
  for _, one in ipairs(ids) do
    if not vain[one] and vain.left > 0 then
      vain.left = vain.left - 1
      local ask = asked_again(f, one, seen)
      local candidate = ask and choose(f, ask, depth, now, seen)
      if candidate then return one, ask, candidate end
      vain[one] = true
    end
  end
  return nil
end

-- The models of which a waiting call can have a slot, as far as the first of them tell: how many wait for each. Nil for
-- none.
local function servable(f, now, seen)
  local found, depths = {}, redis.call('HGETALL', f.depths)
  for i = 1, math.min(#depths, 2 * WAITED_MAX), 2 do
    local model, depth = depths[i], tonumber(depths[i + 1])
    for _, one in ipairs(redis.call('ZRANGEBYLEX', f.arrivals, '[' .. model .. ' ', '(' .. model .. '!', 'LIMIT', 0,
      SAMPLE_MAX)) do
      local ask = asked_again(f, string.match(one, '(%S+)$'), seen)
      if ask and choose(f, ask, depth, now, seen) then
        found[model] = depth
        break
      end
    end
  end
  return next(found) and found
end

-- Gives a slot to one of a key's calls for these models, if one can have any. Returns its node.
local function give_to(f, key, models, now, seen, vain)
  local model, ids
  for _ = 1, MODELS_MAX do
    model, ids = front(f, key, model)
    if not model then return nil end
    local id, ask, candidate
    if models[model] then id, ask, candidate = able(f, ids, models[model], now, seen, vain) end
    if id then
      id, ask, candidate = kin(f, ids, id, ask, candidate, now, seen)
      give(f, id, ask, candidate, now, seen)
      return candidate.name
    end
  end
  return nil
end

local function give_one(f, now, seen, vain)
  local models = servable(f, now, seen)
  if not models then return nil end
  for first = 0, KEYS_MAX - 1, PAGE_KEYS do
    local keys = redis.call('ZRANGE', f.line, first, first + PAGE_KEYS - 1)
    for _, key in ipairs(keys) do
      local backend = give_to(f, key, models, now, seen, vain)
      if backend then return backend end
    end
    if #keys < PAGE_KEYS then return nil end
  end
  return nil
end

-- Gives free slots to those that wait, as long as there are both. `freed`: by node, the slots that are free now and were
-- not before; when those are given, nobody is left who could have one.
local function grant(f, now, freed)
  if calm(f) then return end
  local seen, vain = nothing_seen(), {left = LOOKED_MAX}
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

-- Ends slots and places that nobody has renewed: their replicas are dead, or their clients. Returns whether a slot is
-- free by that.
local function sweep(f, now)
  forgive(f, now)
  if not calm(f) then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', f.patience, '-inf', now, 'LIMIT', 0, SWEPT_MAX)) do
      local ask = asked(f, id)
      if ask then forget(f, id, ask) else redis.call('ZREM', f.patience, id) end
    end
  end
  local dead = redis.call('ZRANGEBYSCORE', f.slots, '-inf', now, 'LIMIT', 0, SWEPT_MAX)
  return #dead > 0 and next(free(f, dead, now, {})) ~= nil
end

local function prefix_range(key, model)
  return '[' .. key .. ' ' .. model .. ' ', '(' .. key .. ' ' .. model .. '!'
end

-- About how many calls get a slot before the next, or a given, call of `ask`, and it: 1 is the first.
local function position(f, ask)
  local from, to = prefix_range(ask.key, ask.model)
  local before = redis.call('ZLEXCOUNT', f.places, from, ask.place and '(' .. ask.place or to)
  local mine = math.max(virtual(f, ask.key))
  local place = before + 1
  local line = redis.call('ZRANGE', f.line, 0, AHEAD_MAX - 1, 'WITHSCORES')
  for i = 1, #line, 2 do
    if line[i] ~= ask.key then
      local at = tonumber(line[i + 1])
      local first = at < mine or (at == mine and line[i] < ask.key)
      local most = before + (first and 1 or 0)
      if most > 0 then
        place = place + math.min(most, redis.call('ZLEXCOUNT', f.places, prefix_range(line[i], ask.model)))
      end
    end
  end
  return place
end
