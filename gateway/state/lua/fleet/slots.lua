--[[
  The slots of the fleet's nodes: who holds one, who loads a model, which prompts a node has in mind.

  Every function of the library has the same KEYS, in the order of `fleet_at`. Ids are those of one attempt of a call.

  held     id -> JSON: b backend, m model, k key, w its weight, t since when (ms), c tokens charged to the line / weight,
           l 1 while it loads the model, h 1 when the node had served the beginning of its prompt
  loads    backend -> "<id> <model>" of the load under way; "<backend> <model>" -> when one was done (ms)
  ask      what a call wants, as `place` takes it and as it waits: replica, key, weight, model, tokens, candidates in
           order (name, slots, cold, equal, from), affinity (a backend or nil), record (digests); since when it waits (ms)
]]

local SLOT_MS = 15000        -- a slot nobody has renewed for so long is free again
local CLAIM_MS = 5000        -- so long a replica has to take a slot that was granted to one of its waiting calls
local LOADED_MS = 5000       -- so long a replica may not know yet that a model has been loaded
local SWEPT_MAX = 256        -- leases of the dead ended in one call
local BUSIER_MAX = 0.5       -- by so much of its slots a node may be busier than others and still be preferred for what it
                             -- has in mind
local PREFIXES_MAX = 50000   -- beginnings of prompts that are remembered

local function fleet_at(KEYS)
  return {registry = KEYS[1], capacity = KEYS[2], slots = KEYS[3], held = KEYS[4], busy = KEYS[5], loads = KEYS[6],
    line = KEYS[7], places = KEYS[8], waiting = KEYS[9], patience = KEYS[10], served = KEYS[11], depths = KEYS[12],
    rates = KEYS[13], prefixes = KEYS[14], ages = KEYS[15], nodes = KEYS[16], changes = KEYS[17], turns = KEYS[18],
    arrivals = KEYS[19]}
end

local function now_ms()
  return math.floor(clock() / 1000)
end

-- How many slots of a node are free. `seen` keeps what was read: nothing else runs meanwhile.
local function room(f, candidate, seen)
  local left = seen[candidate.name]
  if left == nil then
    local capacity = tonumber(redis.call('HGET', f.capacity, candidate.name) or '') or candidate.slots
    left = capacity - (tonumber(redis.call('HGET', f.busy, candidate.name) or '') or 0)
    seen[candidate.name] = left
    seen[' ' .. candidate.name] = capacity
  end
  return left
end

-- Id and model of the load under way on a node.
local function loading(f, backend)
  return string.match(redis.call('HGET', f.loads, backend) or '', '^(%S+) (%S+)$')
end

-- Which part of a node's slots is taken; more than 1 where there are none.
local function share(f, candidate, seen)
  local left = room(f, candidate, seen)
  return 1 - left / math.max(1, seen[' ' .. candidate.name])
end

local function needs_load(f, candidate, model, now)
  if candidate.cold ~= 1 then return false end
  local done = tonumber(redis.call('HGET', f.loads, candidate.name .. ' ' .. model) or '')
  return not (done and now - done < LOADED_MS)
end

-- The candidate that takes the call now, if any: the first with room, or among equals the one that has the beginning of
-- its prompt in mind and is not much busier; for that one the call waits a little, where all are busy. A node loads one
-- model at a time, and where the model is, or is being loaded, somewhere, another node loads it only when enough calls
-- wait for it. `depth`: calls that wait for the model, this one counted.
local function choose(f, ask, depth, now, seen)
  local open, there = false, 0
  for _, candidate in ipairs(ask.candidates) do open = open or room(f, candidate, seen) > 0 end
  if not open then return nil end
  for _, candidate in ipairs(ask.candidates) do
    local _, model = loading(f, candidate.name)
    if model == ask.model or not needs_load(f, candidate, ask.model, now) then there = there + 1 end
  end
  local function fits(candidate)
    if room(f, candidate, seen) <= 0 then return false end
    if not needs_load(f, candidate, ask.model, now) then return true end
    if loading(f, candidate.name) then return false end
    return there == 0 or depth >= candidate.from * there
  end
  local least = 1
  for _, candidate in ipairs(ask.affinity and ask.candidates or {}) do
    if candidate.equal == 1 then least = math.min(least, share(f, candidate, seen)) end
  end
  for _, candidate in ipairs(ask.affinity and ask.candidates or {}) do
    local kept = candidate.name == ask.affinity and candidate.equal == 1
    if kept and share(f, candidate, seen) <= least + BUSIER_MAX then
      if fits(candidate) then return candidate end
      if room(f, candidate, seen) <= 0 and now - (ask.since or now) < (ask.home or 0) then return nil end
    end
  end
  for _, candidate in ipairs(ask.candidates) do
    if fits(candidate) then return candidate end
  end
  return nil
end

local function remember(f, digests, backend, now)
  for _, digest in ipairs(digests) do
    redis.call('HSET', f.prefixes, digest, backend)
    redis.call('ZADD', f.ages, now, digest)
  end
  local over = redis.call('ZCARD', f.ages) - PREFIXES_MAX
  if over > 0 then
    local oldest = redis.call('ZPOPMIN', f.ages, over)
    for i = 1, #oldest, 2 do redis.call('HDEL', f.prefixes, oldest[i]) end
  end
end

-- The backend that served the longest of the beginnings last.
local function mindful(f, digests)
  for _, digest in ipairs(digests) do
    local backend = redis.call('HGET', f.prefixes, digest)
    if backend then return backend end
  end
  return nil
end

-- One slot more, or less, of a node and of a model there.
local function count(f, held, by)
  for _, field in ipairs({held.b, held.b .. ' ' .. held.m}) do
    if redis.call('HINCRBY', f.busy, field, by) <= 0 then redis.call('HDEL', f.busy, field) end
  end
end

-- Gives the call a slot for `ms`. Returns what it holds.
local function take(f, id, ask, candidate, now, ms, charged, seen)
  local held = {b = candidate.name, m = ask.model, k = ask.key, w = ask.weight, t = now, c = charged, l = 0,
    h = ask.affinity == candidate.name and 1 or 0}
  if needs_load(f, candidate, ask.model, now) then
    held.l = 1
    redis.call('HSET', f.loads, candidate.name, id .. ' ' .. ask.model)
  end
  redis.call('HSET', f.held, id, cjson.encode(held))
  redis.call('ZADD', f.slots, now + ms, id)
  count(f, held, 1)
  seen[candidate.name] = room(f, candidate, seen) - 1
  remember(f, ask.record, candidate.name, now)
  return held
end

-- Ends the load of a model on a node, if it is that call's; `done`: the model can be used there now.
local function end_load(f, backend, id, model, now, done)
  if loading(f, backend) ~= id then return end
  redis.call('HDEL', f.loads, backend)
  if done then redis.call('HSET', f.loads, backend .. ' ' .. model, str(now)) end
end

-- Takes the slot back. Returns what was held, or nil. `done`: a model it was loading is loaded.
local function free(f, id, now, done)
  local packed = redis.call('HGET', f.held, id)
  if not packed then return nil end
  local held = cjson.decode(packed)
  redis.call('HDEL', f.held, id)
  redis.call('ZREM', f.slots, id)
  count(f, held, -1)
  if held.l == 1 then end_load(f, held.b, id, held.m, now, done) end
  return held
end

-- Something that replicas are told of nodes is new.
local function bump(f, field)
  redis.call('ZADD', f.changes, redis.call('HINCRBY', f.registry, 'revision', 1), field)
end
