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

-- `figures`: prompt tokens, ms, output tokens, ms, load ms.
local function learn(f, held, figures, now)
  local field = held.b .. ' ' .. held.m
  local packed = redis.call('HGET', f.rates, field)
  local rates = packed and cjson.decode(packed) or {load = 0, prompt = 0, cached = 0, output = 0, call = 0, n = 0, h = 0}
  local prompt, prompt_ms, output, output_ms, load_ms = unpack(figures)
  local kind = held.h == 1 and 'cached' or 'prompt'
  if prompt > 0 and prompt_ms > 0 then rates[kind] = learned(rates[kind], prompt_ms / prompt) end
  if output > 0 and output_ms > 0 then rates.output = learned(rates.output, output_ms / output) end
  if held.l == 1 and load_ms > 0 then rates.load = learned(rates.load, load_ms) end
  rates.call = learned(rates.call, math.max(1, now - held.t - (held.l == 1 and load_ms or 0)))
  rates.n = rates.n + 1
  rates.h = rates.h + held.h
  redis.call('HSET', f.rates, field, cjson.encode(rates))
end

local function leave(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local told, freed, all = {now}, {}, false
  for at = 1, #ARGV, FIELDS_OF_A_CALL do
    local id, tokens = ARGV[at], tonumber(ARGV[at + 1])
    local held = free(f, id, now, ARGV[at + 7] == '1')
    if held then
      freed[held.b] = (freed[held.b] or 0) + 1
      all = all or held.l == 1   -- others may load the model now, on any node
      if held.c > 0 and tokens >= 0 then charge(f, held.k, tokens / held.w - held.c) end
      if ARGV[at + 7] == '1' then
        local figures = {}
        for i = 1, 5 do figures[i] = tonumber(ARGV[at + 1 + i]) end
        learn(f, held, figures, now)
      end
      local node = redis.call('HGET', f.nodes, 'breaker:' .. held.b .. ' *') or ''
      local pair = redis.call('HGET', f.nodes, 'breaker:' .. held.b .. ' ' .. held.m) or ''
      told[#told + 1] = {held.b, held.m, node, pair}
    else
      forget(f, id)
      told[#told + 1] = {}
    end
  end
  all = sweep(f, now) or all
  if all or next(freed) then grant(f, now, not all and freed or nil) end
  return told
end
redis.register_function{function_name = 'LIBRARY_leave', callback = leave, flags = {'allow-oom'}}
