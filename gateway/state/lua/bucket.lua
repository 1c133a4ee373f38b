--[[
  Buckets: so many a minute, so many at once. All buckets of one owner are fields of one hash, each as "level:at:den".

  A level is in units of 1/den of a token; it gains num units a microsecond, where num/den is limit / 60 s in lowest
  terms, so that nothing is ever rounded. A missing bucket is a full one.
]]

local PACKED = '%.0f:%.0f:%.0f'  -- level, at, den
local EXPIRY_SLACK_MS = 60000     -- what expires may live longer by this, so that few calls have to say when

-- A full bucket: `limit` a minute, never more than `capacity` at once.
local function bucket_of(kind, field, limit, capacity, now)
  local a, b = limit, MINUTE_US
  while b ~= 0 do a, b = b, a % b end
  local den = MINUTE_US / a
  return {kind = kind, field = field, limit = limit, capacity = capacity, full = capacity * den, num = limit / a, den = den,
    level = capacity * den, at = now}
end

-- Brings `bucket` from what it held then to what it holds now. A changed limit keeps the tokens, in the new unit.
local function refill(bucket, packed, now)
  local level, at, den = string.match(packed or '', '^(-?%d+):(%d+):(%d+)$')
  level, at, den = tonumber(level), tonumber(at), tonumber(den)
  if not level then return end
  if den ~= bucket.den then  -- in two steps, so that no product leaves the whole numbers
    level = math.floor(level / den) * bucket.den + math.floor(level % den * bucket.den / den)
  end
  if now < at then
    if at - now > CLOCK_BACK_US_MAX then at = now end
  else
    if level < bucket.full then
      if now - at >= math.ceil((bucket.full - level) / bucket.num) then level = bucket.full
      else level = level + (now - at) * bucket.num end
    end
    at = now
  end
  bucket.level, bucket.at = math.min(level, bucket.full), at
end

-- Milliseconds until it holds `tokens`. A bucket of a clock that has gone back gains nothing until it is caught up.
local function wait_ms(bucket, tokens, now)
  local short = tokens * bucket.den - bucket.level
  if short <= 0 then return 0 end
  return math.ceil((math.ceil(short / bucket.num) + math.max(0, bucket.at - now)) / 1000)
end

local function left(bucket)
  return math.max(0, math.floor(bucket.level / bucket.den))
end

-- Reads the buckets of one owner at once.
local function fill(key, buckets, now)
  if #buckets == 0 then return end
  local fields = {}
  for i, bucket in ipairs(buckets) do fields[i] = bucket.field end
  local seen = redis.call('HMGET', key, unpack(fields))
  for i, bucket in ipairs(buckets) do refill(bucket, seen[i], now) end
end

local function pack(bucket)
  return string.format(PACKED, bucket.level, bucket.at, bucket.den)
end

-- Lets `key` live for `ms` at least. To ask when it expires costs a third of saying so.
local function outlive(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms + EXPIRY_SLACK_MS) end
end

-- Writes them, values and expiry together: buckets that would all be full again are as good as missing ones.
local function keep(key, buckets, now)
  if #buckets == 0 then return end
  local values, full_ms = {}, 0
  for _, bucket in ipairs(buckets) do
    values[#values + 1] = bucket.field
    values[#values + 1] = pack(bucket)
    full_ms = math.max(full_ms, wait_ms(bucket, bucket.capacity, now))
  end
  redis.call('HSET', key, unpack(values))
  outlive(key, full_ms + 1000)
end
