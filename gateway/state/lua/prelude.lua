--[[
  What every function of the library shares: the clock, whole numbers, buckets, months.

  The clock is Redis' own TIME, read once a call, so replicas with skewed clocks agree; tests replace `clock`.
  Numbers are whole and below 2^53; they are written with %.0f because tostring keeps 14 digits only.
]]

local LEASE_MEMORY_MS = 3600000     -- how long a settled call is remembered, so that a repeated settle does nothing
local CLOCK_BACK_US_MAX = 5000000   -- a clock that went back further than this restarts a bucket's time
local HELD_WAIT_MS = 1000           -- a guess at when a running call ends and gives back what it holds
local MINUTE_US = 60000000

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function str(number)
  return string.format('%.0f', number)
end

-- The whole number in `text`, or an error that stops the function before it has written anything.
local function whole(text, name)
  local number = tonumber(text)
  if not number or number ~= math.floor(number) or number < 0 or number > 9007199254740991 then
    error({err = 'ERR ' .. name .. ' is not a whole number'})
  end
  return number
end

-- YYYYMM in UTC. Days are counted from 0000-03-01, so that leap days come last in their year.
local function month_of(us)
  local day = math.floor(us / 86400000000) + 719468
  local era = math.floor(day / 146097)
  local day_of_era = day - era * 146097
  local year = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local shifted = math.floor((5 * day_of_year + 2) / 153)
  local month = shifted < 10 and shifted + 3 or shifted - 9
  return string.format('%04d%02d', year + era * 400 + (month <= 2 and 1 or 0), month)
end

-- A bucket of `limit` a minute. Its level is in units of 1/den of a token; it gains num units a microsecond, where
-- num/den is limit / 60 s in lowest terms, so that nothing is ever rounded.
local function per_minute(limit)
  local a, b = limit, MINUTE_US
  while b ~= 0 do a, b = b, a % b end
  local den = MINUTE_US / a
  return {full = limit * den, num = limit / a, den = den}
end

-- The bucket as it is now. A missing bucket is a full one; a changed limit keeps the tokens, in the new unit.
local function refill(key, rate, now)
  local seen = redis.call('HMGET', key, 'level', 'at', 'den')
  local level, at, den = tonumber(seen[1]), tonumber(seen[2]), tonumber(seen[3])
  if not level or not at or not den then return {level = rate.full, at = now} end
  if den ~= rate.den then level = math.floor(level / den * rate.den) end
  if now < at then
    if at - now > CLOCK_BACK_US_MAX then at = now end
    return {level = math.min(level, rate.full), at = at}
  end
  if level < rate.full then
    if now - at >= math.ceil((rate.full - level) / rate.num) then level = rate.full
    else level = level + (now - at) * rate.num end
  end
  return {level = math.min(level, rate.full), at = now}
end

-- Milliseconds until the bucket holds `tokens`. A bucket of a clock that has gone back gains nothing until it is caught up.
local function wait_ms(bucket, rate, tokens, now)
  local short = tokens * rate.den - bucket.level
  if short <= 0 then return 0 end
  return math.ceil((math.ceil(short / rate.num) + math.max(0, bucket.at - now)) / 1000)
end

-- Value and expiry together: a bucket that would be full again is as good as a missing one.
local function keep(key, bucket, rate, now)
  local full_ms = wait_ms(bucket, rate, rate.full / rate.den, now)
  redis.call('HSET', key, 'level', str(bucket.level), 'at', str(bucket.at), 'den', str(rate.den))
  redis.call('PEXPIRE', key, str(full_ms + 1000))
end

-- {limit, left, milliseconds until full} for the client's headers; -1 where there is no limit.
local function report(bucket, rate, limit, now)
  if not rate then return -1, -1, 0 end
  return limit, math.max(0, math.floor(bucket.level / rate.den)), wait_ms(bucket, rate, limit, now)
end

-- Who the key is, or nil and the reason: 'not_ready' while Redis may lack keys, 'unknown' for all that earns a 401.
local function known(ready_key, key_key, digest, now)
  local record = redis.call('HMGET', key_key, 'digest', 'enabled', 'expires', 'rpm', 'tpm', 'concurrency', 'monthly',
    'metered')
  if not record[1] then
    if redis.call('EXISTS', ready_key) == 0 then return nil, 'not_ready' end
    return nil, 'unknown'
  end
  local expires = tonumber(record[3])
  if record[1] ~= digest or record[2] ~= '1' or (expires > 0 and expires * 1000 <= now) then return nil, 'unknown' end
  return {rpm = tonumber(record[4]), tpm = tonumber(record[5]), concurrency = tonumber(record[6]),
    monthly = tonumber(record[7]), metered = record[8] == '1'}
end

-- Ends an open lease: gives back what it held, charges `tokens` and `credits`, forgets it among the running.
-- keys: account, tokens bucket, running, lease, leases, key record. Returns the month it belongs to.
local function close(keys, key_id, call_id, held, tokens, credits, now)
  local tpm = tonumber(redis.call('HGET', keys.key, 'tpm') or '')
  if tpm then
    local rate = per_minute(tpm)
    local bucket = refill(keys.tokens, rate, now)
    bucket.level = math.min(rate.full, bucket.level - (tokens - held.expected) * rate.den)
    keep(keys.tokens, bucket, rate, now)
  end
  if held.tokens > 0 then redis.call('HINCRBY', keys.account, 'held:' .. held.month, str(0 - held.tokens)) end
  if tokens > 0 then redis.call('HINCRBY', keys.account, 'spent:' .. held.month, str(tokens)) end
  if held.credits > 0 then redis.call('HINCRBY', keys.account, 'credit_held', str(0 - held.credits)) end
  if credits > 0 then redis.call('HINCRBY', keys.account, 'credit', str(0 - credits)) end
  redis.call('ZREM', keys.running, call_id)
  redis.call('ZREM', keys.leases, key_id .. ':' .. call_id)
  redis.call('HSET', keys.lease, 'state', 'settled')
  redis.call('HDEL', keys.lease, 'detail')
  redis.call('PEXPIRE', keys.lease, LEASE_MEMORY_MS)
end

-- What an open lease holds; nil when there is none (never opened, settled already, or forgotten).
local function open_lease(key)
  local lease = redis.call('HMGET', key, 'state', 'tokens', 'expected', 'credits', 'month', 'at')
  if lease[1] ~= 'open' then return nil end
  return {tokens = tonumber(lease[2]), expected = tonumber(lease[3]), credits = tonumber(lease[4]),
    month = lease[5], at = lease[6]}
end

-- The one place that writes a usage event, always beside the charge it reports. Fields as in core/usage.py.
local function emit(stream, key_id, call_id, held, prompt, completion, credits, estimated, detail)
  redis.call('XADD', stream, '*', 'v', '1', 'id', call_id, 'key', key_id, 'at', held.at, 'month', held.month,
    'prompt', str(prompt), 'completion', str(completion), 'credits', str(credits), 'estimated', estimated,
    'detail', detail)
end
