--[[
  Calls that are done with their slots, or wait no longer. What they came to corrects their keys' place in the line and
  says how fast the node is; the slots go to those that wait.

  KEYS     the fleet's
  ARGV     for each call: id, tokens it came to or -1, prompt tokens, ms for them, output tokens, ms for them, ms of
           loading, 1 if it ended well

  Returns {now ms, for each call {backend, model, breaker of the node, breaker of the node and the model}}; {} for a call
  that held no slot.
]]
local FIELDS_OF_A_CALL = 8
local NEWEST = 0.2   -- how much the newest figure counts

local function learned(old, value)
  return old > 0 and old + NEWEST * (value - old) or value
end

local function rates_of(f, pair)
  local packed = redis.call('HGET', f.rates, pair)
  return packed and cjson.decode(packed) or {load = 0, prompt = 0, cached = 0, output = 0, call = 0, n = 0, h = 0}
end

-- `figures`: prompt tokens, ms, output tokens, ms, load ms.
local function learn(rates, held, figures, now)
  local prompt, prompt_ms, output, output_ms, load_ms = unpack(figures)
  local kind = held.h == 1 and 'cached' or 'prompt'
  if prompt > 0 and prompt_ms > 0 then rates[kind] = learned(rates[kind], prompt_ms / prompt) end
  if output > 0 and output_ms > 0 then rates.output = learned(rates.output, output_ms / output) end
  if held.l == 1 and load_ms > 0 then rates.load = learned(rates.load, load_ms) end
  rates.call = learned(rates.call, math.max(1, now - held.t - (held.l == 1 and load_ms or 0)))
  rates.n = rates.n + 1
  rates.h = rates.h + held.h
end

-- The calls' ids; and by id which ended well: of one that is told of twice, the first time counts.
local function those_of(ARGV)
  local ids, well = {}, {}
  for at = 1, #ARGV, FIELDS_OF_A_CALL do
    local id = ARGV[at]
    ids[#ids + 1] = id
    if well[id] == nil then well[id] = ARGV[at + 7] == '1' end
  end
  return ids, well
end

local function leave(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local ids, well = those_of(ARGV)
  local held = #ids > 0 and free(f, ids, now, well) or {}
  local told, freed, rates, all = {now}, {}, {}, false
  for i, id in ipairs(ids) do
    local its, at = held[id], (i - 1) * FIELDS_OF_A_CALL + 1
    if its then
      held[id] = nil   -- a call that is told of twice has left once
      local pair, tokens = its.b .. ' ' .. its.m, tonumber(ARGV[at + 1])
      freed[its.b] = (freed[its.b] or 0) + 1
      all = all or its.l == 1   -- others may load the model now, on any node
      if its.c > 0 and tokens >= 0 then charge(f, its.k, tokens / its.w - its.c) end
      if well[id] then
        local figures = {}
        for j = 1, 5 do figures[j] = tonumber(ARGV[at + 1 + j]) end
        rates[pair] = rates[pair] or rates_of(f, pair)
        learn(rates[pair], its, figures, now)
      end
      local breakers = redis.call('HMGET', f.nodes, 'breaker:' .. its.b .. ' *', 'breaker:' .. pair)
      told[i + 1] = {its.b, its.m, breakers[1] or '', breakers[2] or ''}
    else
      local ask = asked(f, id)
      if ask then forget(f, id, ask) end
      told[i + 1] = {}
    end
  end
  for pair, its in pairs(rates) do redis.call('HSET', f.rates, pair, cjson.encode(its)) end
  all = sweep(f, now) or all
  if all or next(freed) then grant(f, now, not all and freed or nil) end
  return told
end
redis.register_function{function_name = 'LIBRARY_leave', callback = leave, flags = {'allow-oom'}}
