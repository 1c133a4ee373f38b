--[[
  What a call asks, as `place` and `foresee` take it: `ask` of slots.lua, and the digests to look up.
]]

local CANDIDATES_MAX = 64
local CANDIDATES_AT = 10   -- the first of their arguments
local FIELDS_OF_A_CANDIDATE = 5
local DIGESTS_MAX = 32

-- One of the candidates. Its numbers are checked only now, perhaps behind a write: to check all takes as long as to choose.
local function candidate_of(ARGV, i)
  local at = CANDIDATES_AT + (i - 1) * FIELDS_OF_A_CANDIDATE
  return {name = ARGV[at], slots = whole(ARGV[at + 1], 'slots'), cold = ARGV[at + 2] == '1' and 1 or 0,
    equal = ARGV[at + 3] == '1' and 1 or 0, from = whole(ARGV[at + 4], 'from')}
end

-- What a call asks, from ARGV[2] on, but for the candidates, which `chosen` adds when it needs them.
local function ask_of(ARGV)
  local ask = {replica = ARGV[2], key = ARGV[3], weight = math.max(1, whole(ARGV[4], 'weight')), model = ARGV[5],
    tokens = whole(ARGV[6], 'tokens')}
  local at = CANDIDATES_AT + whole(ARGV[9], 'candidates') * FIELDS_OF_A_CANDIDATE
  local count = math.min(DIGESTS_MAX, whole(ARGV[at], 'lookups'))
  local lookups = {unpack(ARGV, at + 1, at + count)}
  at = at + count + 1
  count = math.min(DIGESTS_MAX, whole(ARGV[at], 'records'))
  ask.record = {unpack(ARGV, at + 1, at + count)}
  ask.home = whole(ARGV[at + count + 1] or '0', 'home')
  return ask, lookups
end

-- The candidate that takes the call now, if any, as `choose` says. Mostly it is the first, whatever the others are: then
-- they are not even parsed, which takes long where there are many.
local function chosen(f, ARGV, ask, depth, now, seen)
  local count = math.min(CANDIDATES_MAX, tonumber(ARGV[9]))
  if count > 0 and not ask.affinity then
    local first = candidate_of(ARGV, 1)
    if first.cold ~= 1 and room(f, first, seen) > 0 then return first end
  end
  ask.candidates = {}
  for i = 1, count do ask.candidates[i] = candidate_of(ARGV, i) end
  return choose(f, ask, depth, now, seen)
end
