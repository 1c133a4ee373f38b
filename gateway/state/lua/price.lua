--[[
  Prices, in millionths of a credit. core/pricing.py has the same arithmetic, for people and as the tests' oracle.

  The hash of prices: one field a model, and `*` for all that have no price of their own; each holds
  "<valid from ms>:<per request>:<per 1,000 prompt tokens>:<per 1,000 completion tokens>;…", the latest last.
]]

local PRICE_ANY = '*'

-- What `text` says is valid now; nil when nothing is yet.
local function valid_price(text, now)
  local found
  for from, request, prompt, completion in string.gmatch(text or '', '(%d+):(%d+):(%d+):(%d+);') do
    if tonumber(from) * 1000 <= now then
      found = {request = tonumber(request), prompt = tonumber(prompt), completion = tonumber(completion)}
    end
  end
  return found
end

-- The model's price times the tier's multiplier (thousandths), each part rounded up; nil while Redis has no prices.
local function price_for(key, model, multiplier, now)
  local seen = redis.call('HMGET', key, model, PRICE_ANY)
  local price = valid_price(seen[1], now) or valid_price(seen[2], now)
  if not price then return nil end
  for part, micro in pairs(price) do price[part] = math.ceil(micro * multiplier / 1000) end
  return price
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
