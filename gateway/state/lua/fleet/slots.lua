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

local fleet = {}   -- names of the keys: the same in every call, and so many that to write them down anew takes time

local function fleet_at(KEYS)
  if fleet.registry ~= KEYS[1] then
    fleet = {registry = KEYS[1], capacity = KEYS[2], slots = KEYS[3], held = KEYS[4], busy = KEYS[5], loads = KEYS[6],
      line = KEYS[7], places = KEYS[8], waiting = KEYS[9], patience = KEYS[10], served = KEYS[11], depths = KEYS[12],
      rates = KEYS[13], prefixes = KEYS[14], ages = KEYS[15], nodes = KEYS[16], changes = KEYS[17], turns = KEYS[18],
      arrivals = KEYS[19]}
  end
  fleet.calm = nil   -- whether nobody waits (line.lua): not known yet
  return fleet
end

local function now_ms()
  return math.floor(clock() / 1000)
end

-- What was read in one call of a function, so that it is read once: nothing else runs meanwhile, and what `take` changes
-- it changes here too. By node, `left`: its free slots, `slots`: all of them; `loads`: fields of the hash of that name,
-- false for those it lacks; `asks`: by id, what waiting calls ask.
local function nothing_seen()
  return {left = {}, slots = {}, loads = {}, asks = {}}
end

-- How many slots of a node are free.
local function room(f, candidate, seen)
  local name = candidate.name
  if not seen.left[name] then
    seen.slots[name] = tonumber(redis.call('HGET', f.capacity, name) or candidate.slots)
    seen.left[name] = seen.slots[name] - tonumber(redis.call('HGET', f.busy, name) or 0)
  end
  return seen.left[name]
end

-- Sees how many slots each of the candidates has free.
local function look(f, candidates, seen)
  local names, unseen = {}, {}
  for _, candidate in ipairs(candidates) do
    if not seen.left[candidate.name] then
      names[#names + 1], unseen[#unseen + 1] = candidate.name, candidate
    end
  end
  if #names == 0 then return end
  local slots, busy = redis.call('HMGET', f.capacity, unpack(names)), redis.call('HMGET', f.busy, unpack(names))
  for i, name in ipairs(names) do
    seen.slots[name] = tonumber(slots[i] or unseen[i].slots)
    seen.left[name] = seen.slots[name] - tonumber(busy[i] or 0)
  end
end

-- Sees what is loaded on those of the candidates that may have to load the model.
local function look_at_loads(f, candidates, model, seen)
  local fields = {}
  for _, candidate in ipairs(candidates) do
    local pair = candidate.name .. ' ' .. model
    if candidate.cold == 1 and seen.loads[pair] == nil then
      fields[#fields + 1], fields[#fields + 2] = candidate.name, pair
    end
  end
  if #fields == 0 then return end
  for i, load in ipairs(redis.call('HMGET', f.loads, unpack(fields))) do seen.loads[fields[i]] = load end
end

-- Id and model of a load, as the hash of loads has it.
local function parsed(load)
  return string.match(load or '', '^(%S+) (%S+)$')
end

-- Id and model of the load under way on a node.
local function loading(f, backend)
  return parsed(redis.call('HGET', f.loads, backend))
end

-- Which part of a node's slots is taken; more than 1 where there are none.
local function share(candidate, seen)
  return 1 - seen.left[candidate.name] / math.max(1, seen.slots[candidate.name])
end

-- Of a candidate whose loads have been seen.
local function needs_load(candidate, model, now, seen)
  if candidate.cold ~= 1 then return false end
  local done = tonumber(seen.loads[candidate.name .. ' ' .. model] or '')
  return not (done and now - done < LOADED_MS)
end

-- On how many of the candidates the model is, or is being loaded.
local function having(ask, now, seen)
  local there = 0
  for _, candidate in ipairs(ask.candidates) do
    local _, model = parsed(seen.loads[candidate.name])
    if model == ask.model or not needs_load(candidate, ask.model, now, seen) then there = there + 1 end
  end
  return there
end

-- The candidate that takes the call now, if any: the first with room, or among equals the one that has the beginning of
-- its prompt in mind and is not much busier; for that one the call waits a little, where all are busy. A node loads one
-- model at a time, and where the model is, or is being loaded, somewhere, another node loads it only when enough calls
-- wait for it. `depth`: calls that wait for the model, this one counted.
local function choose(f, ask, depth, now, seen)
  look(f, ask.candidates, seen)
  local open = false
  for _, candidate in ipairs(ask.candidates) do open = open or seen.left[candidate.name] > 0 end
  if not open then return nil end
  look_at_loads(f, ask.candidates, ask.model, seen)
  local there
  local function fits(candidate)
    if seen.left[candidate.name] <= 0 then return false end
    if not needs_load(candidate, ask.model, now, seen) then return true end
    if parsed(seen.loads[candidate.name]) then return false end
    there = there or having(ask, now, seen)
    return there == 0 or depth >= candidate.from * there
  end
  local least = 1
  for _, candidate in ipairs(ask.affinity and ask.candidates or {}) do
    if candidate.equal == 1 then least = math.min(least, share(candidate, seen)) end
  end
  for _, candidate in ipairs(ask.affinity and ask.candidates or {}) do
    local kept = candidate.name == ask.affinity and candidate.equal == 1
    if kept and share(candidate, seen) <= least + BUSIER_MAX then
      if fits(candidate) then return candidate end
      if seen.left[candidate.name] <= 0 and now - (ask.since or now) < (ask.home or 0) then return nil end
    end
  end
  for _, candidate in ipairs(ask.candidates) do
    if fits(candidate) then return candidate end
  end
  return nil
end

local function remember(f, digests, backend, now)
  if #digests == 0 then return end
  local where, when = {}, {}
  for i, digest in ipairs(digests) do
    where[2 * i - 1], where[2 * i] = digest, backend
    when[2 * i - 1], when[2 * i] = now, digest
  end
  redis.call('HSET', f.prefixes, unpack(where))
  if redis.call('ZADD', f.ages, unpack(when)) == 0 then return end
  local over = redis.call('ZCARD', f.ages) - PREFIXES_MAX
  if over > 0 then
    local oldest = redis.call('ZPOPMIN', f.ages, over)
    for i = 1, #oldest, 2 do redis.call('HDEL', f.prefixes, oldest[i]) end
  end
end

-- The backend that served the longest of the beginnings last.
local function mindful(f, digests)
  if #digests == 0 then return nil end
  for _, backend in ipairs(redis.call('HMGET', f.prefixes, unpack(digests))) do
    if backend then return backend end
  end
  return nil
end

-- So many slots more, or less, of a node and of a model there.
local function count(f, backend, model, by)
  local pair = backend .. ' ' .. model
  local busy = redis.call('HMGET', f.busy, backend, pair)
  local all, its = (busy[1] or 0) + by, (busy[2] or 0) + by
  if its > 0 then
    redis.call('HSET', f.busy, backend, all, pair, its)
  elseif all > 0 then
    redis.call('HSET', f.busy, backend, all)
    redis.call('HDEL', f.busy, pair)
  else
    redis.call('HDEL', f.busy, backend, pair)
  end
end

-- Gives the call a slot for `ms` of the candidate that was chosen for it. Returns what it holds.
local function take(f, id, ask, candidate, now, ms, charged, seen)
  local held = {b = candidate.name, m = ask.model, k = ask.key, w = ask.weight, t = now, c = charged, l = 0,
    h = ask.affinity == candidate.name and 1 or 0}
  if needs_load(candidate, ask.model, now, seen) then
    held.l = 1
    seen.loads[held.b] = id .. ' ' .. held.m
    redis.call('HSET', f.loads, held.b, seen.loads[held.b])
  end
  redis.call('HSET', f.held, id, cjson.encode(held))
  redis.call('ZADD', f.slots, now + ms, id)
  count(f, held.b, held.m, 1)
  seen.left[held.b] = seen.left[held.b] - 1
  remember(f, ask.record, held.b, now)
  return held
end

-- Ends the load of a model on a node, if it is that call's; `done`: the model can be used there now.
local function end_load(f, backend, id, model, now, done)
  if loading(f, backend) ~= id then return end
  redis.call('HDEL', f.loads, backend)
  if done then redis.call('HSET', f.loads, backend .. ' ' .. model, str(now)) end
end

-- Takes slots back: those of these calls, at least one of them. Returns, by id, what was held. `done`: by id, whether a
-- model that the call was loading is loaded.
local function free(f, ids, now, done)
  local held, gone = {}, {}
  for i, packed in ipairs(redis.call('HMGET', f.held, unpack(ids))) do
    local id = ids[i]
    if packed and not held[id] then
      local its = cjson.decode(packed)
      local pair = its.b .. ' ' .. its.m
      held[id] = its
      gone[pair] = gone[pair] or {backend = its.b, model = its.m, slots = 0}
      gone[pair].slots = gone[pair].slots + 1
      if its.l == 1 then end_load(f, its.b, id, its.m, now, done[id]) end
    end
  end
  redis.call('HDEL', f.held, unpack(ids))
  redis.call('ZREM', f.slots, unpack(ids))
  for _, one in pairs(gone) do count(f, one.backend, one.model, -one.slots) end
  return held
end

-- Something that replicas are told of nodes is new.
local function bump(f, field)
  redis.call('ZADD', f.changes, redis.call('HINCRBY', f.registry, 'revision', 1), field)
end
