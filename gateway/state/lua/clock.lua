--[[
  What every function of the library shares: the clock, whole numbers, months.

  The clock is Redis' own TIME, read once a call, so replicas with skewed clocks agree; tests replace `clock`.
  Numbers are whole and below 2^53. A command takes them as they are, for Redis writes all their digits; in a text they are
  written with %.0f, because tostring keeps 14 digits only.
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
