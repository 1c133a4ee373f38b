--[[
  What is new to a replica, and whose turn it is to probe. Any replica may get a node's turn; one does.

  KEYS    the fleet's
  ARGV[1] version of the registry it has  [2] revision it has  [3] 1 if it wants the rates
  ARGV[4..] node, ms until its next turn, …

  Returns {now ms, version, document or '', revision, <changes>, <busy>, <loads>, <depths>, <rates>, nodes to probe}
  <changes> = name, value, … of what is new since that revision; everything, when Redis has lost what the replica knows
  <busy>, <loads>, <depths>, <rates> = field, value, …
]]
local TURNS_MAX = 20000   -- kept; those of nodes and models that are no more are among them

local function sync(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local version = tonumber(redis.call('HGET', f.registry, 'version') or '') or 0
  local revision = tonumber(redis.call('HGET', f.registry, 'revision') or '') or 0
  local known = whole(ARGV[2], 'revision')
  if known > revision then known = 0 end
  local document = ''
  if version ~= whole(ARGV[1], 'version') then document = redis.call('HGET', f.registry, 'document') or '' end
  local changes = {}
  if known < revision then
    for _, field in ipairs(redis.call('ZRANGEBYSCORE', f.changes, '(' .. str(known), '+inf')) do
      changes[#changes + 1] = field
      changes[#changes + 1] = redis.call('HGET', f.nodes, field) or ''
    end
  end
  if redis.call('HLEN', f.turns) > TURNS_MAX then redis.call('DEL', f.turns) end
  local turns = {}
  for at = 4, #ARGV, 2 do
    local due = tonumber(redis.call('HGET', f.turns, ARGV[at]) or '') or 0
    if now >= due then
      redis.call('HSET', f.turns, ARGV[at], str(now + whole(ARGV[at + 1], 'interval')))
      turns[#turns + 1] = ARGV[at]
    end
  end
  if sweep(f, now) then grant(f, now) end
  local loads = redis.call('HGETALL', f.loads)
  for i = 1, #loads, 2 do
    local done = string.find(loads[i], ' ', 1, true) and tonumber(loads[i + 1])
    if done and now - done >= LOADED_MS then redis.call('HDEL', f.loads, loads[i]) end
  end
  local rates = ARGV[3] == '1' and redis.call('HGETALL', f.rates) or {}
  return {now, version, document, revision, changes, redis.call('HGETALL', f.busy), loads,
    redis.call('HGETALL', f.depths), rates, turns}
end
redis.register_function{function_name = 'LIBRARY_sync', callback = sync, flags = {'allow-oom'}}
