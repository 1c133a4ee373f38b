--[[
  Prices, in millionths of a credit. core/pricing.py has the same arithmetic, for people and as the tests' oracle.

  The hash of prices: one field a model, and `*` for all that have no price of their own; each holds
  "<valid from ms>:<per request>:<per 1,000 prompt tokens>:<per 1,000 completion tokens>;…", the latest last.
]]

local PRICE_ANY = '*'

local function scaled(micro, multiplier)
  return math.ceil(micro * multiplier / 1000)
end

-- What `text` says is valid now, times `multiplier` (thousandths), each part rounded up; nil when nothing is yet.
local function valid_price(text, multiplier, now)
  local request, prompt, completion
  for from, per_request, per_prompt, per_completion in string.gmatch(text or '', '(%d+):(%d+):(%d+):(%d+);') do
    if tonumber(from) * 1000 <= now then request, prompt, completion = per_request, per_prompt, per_completion end
  end
  if not request then return nil end
  return {request = scaled(request, multiplier), prompt = scaled(prompt, multiplier),
    completion = scaled(completion, multiplier)}
end

-- The model's price at the tier's multiplier; nil while Redis has no prices.
local function price_for(key, model, multiplier, now)
  local seen = redis.call('HMGET', key, model, PRICE_ANY)
  return valid_price(seen[1], multiplier, now) or valid_price(seen[2], multiplier, now)
end

-- Rounded up; in two steps, so that no product leaves the whole numbers.
local function cost_of(tokens, per_1k)
  return math.floor(tokens / 1000) * per_1k + math.ceil(tokens % 1000 * per_1k / 1000)
end

local function cost(price, prompt, completion)
  return price.request + cost_of(prompt, price.prompt) + cost_of(completion, price.completion)
end

-- The most tokens that cost no more than `micro`.
local function affordable(micro, per_1k)
  return math.floor(micro / per_1k) * 1000 + math.floor(micro % per_1k * 1000 / per_1k)
end
