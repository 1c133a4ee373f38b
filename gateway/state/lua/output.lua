--[[
  How long this key's answers of a model usually are: what a call reserves of its tokens a minute beside its prompt.

  One number a model, that moves up nine steps for a longer answer and down one for a shorter one, so that it comes to
  rest where nine of ten answers are no longer; a step is a 64th of it.
]]

local OUTPUT_TOKENS_EXPECTED = 512     -- while nothing is known
local OUTPUT_MODELS_MAX = 256          -- models remembered of one key
local OUTPUT_TOKENS_MAX = 10000000
local OUTPUT_MEMORY_MS = 2592000000    -- thirty days after the last answer

local function output_expected(key, model)
  return tonumber(redis.call('HGET', key, model) or '') or OUTPUT_TOKENS_EXPECTED
end

local function learn(key, model, tokens)
  local usual = tonumber(redis.call('HGET', key, model) or '')
  if not usual then
    if redis.call('HLEN', key) >= OUTPUT_MODELS_MAX then return end
    usual = math.max(OUTPUT_TOKENS_EXPECTED, tokens)
  end
  local step = math.max(1, math.floor(usual / 64))
  if tokens > usual then usual = usual + 9 * step elseif tokens < usual then usual = math.max(1, usual - step) end
  redis.call('HSET', key, model, math.min(usual, OUTPUT_TOKENS_MAX))
  outlive(key, OUTPUT_MEMORY_MS)
end
