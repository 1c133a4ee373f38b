--[[
  Give a call a slot on the first of its candidates with room, or a place in the line. Asked again, the same call gets
  the same answer: this is how a waiting call says that its client is there.

  KEYS     the fleet's
  ARGV[1] id  [2] channel of its replica  [3] key  [4] weight of the key  [5] model  [6] tokens expected
  ARGV[7] most calls that may wait for the model  [8] 1 to wait, 0 not to  [9] how many candidates
  ARGV[10..] name, slots, 1 if it has to load, 1 if equal, waiting calls from which another load is worth it, …
  then     how many digests to look up, those, how many to record, those, for how many ms it had rather wait for the node
           that has the longest in mind than go to another one

  Returns {1, backend, 1 if it loads, 1 if the beginning of the prompt was there}
          {0, position, calls that wait for the model} when it waits, or would have to
          {-1, calls that wait for the model} when the line is full
]]
local function place(KEYS, ARGV)
  local f, now, id = fleet_at(KEYS), now_ms(), ARGV[1]
  local ask, lookups = ask_of(ARGV)
  local depth_max, waits = whole(ARGV[7], 'depth'), ARGV[8] == '1'
  local packed = redis.call('HGET', f.held, id)
  if packed then
    local held = cjson.decode(packed)
    redis.call('ZADD', f.slots, now + SLOT_MS, id)
    return {1, held.b, held.l, held.h}
  end
  if sweep(f, now) then
    grant(f, now)
    if redis.call('HEXISTS', f.held, id) == 1 then return place(KEYS, ARGV) end
  end
  ask.affinity = mindful(f, lookups)
  if not waits then ask.home = 0 end
  local waited, depth = nil, 0
  if not calm(f) then waited, depth = asked(f, id), depth_of(f, ask.model) end
  if waited then ask.place, ask.since = waited.place, waited.since end
  local seen = nothing_seen()
  local candidate = chosen(f, ARGV, ask, waited and depth or depth + 1, now, seen)
  if candidate and not waited and depth > 0 then  -- nobody overtakes those who wait for the same
    grant(f, now)
    seen, depth = nothing_seen(), depth_of(f, ask.model)
    candidate = chosen(f, ARGV, ask, depth + 1, now, seen)
  end
  if candidate then
    local charged = (waited or not calm(f)) and ask.tokens / ask.weight or 0
    local held = take(f, id, ask, candidate, now, SLOT_MS, charged, seen)
    if waited or charged > 0 then charge(f, ask.key, charged, waited) end
    if waited then forget(f, id, ask) end
    return {1, held.b, held.l, held.h}
  end
  if waited then
    redis.call('HSET', f.waiting, id, cjson.encode(ask))
    redis.call('ZADD', f.patience, now + PATIENCE_MS, id)
  elseif waits and depth >= depth_max then
    return {-1, depth}
  elseif waits then
    join(f, id, ask, now)
    depth = depth + 1
  end
  return {0, position(f, ask), depth}
end
redis.register_function('LIBRARY_place', place)
