--[[
  What a call asks, as `place` and `foresee` take it: `ask` of slots.lua, and the digests to look up.
]]

local CANDIDATES_MAX = 64
local DIGESTS_MAX = 32

-- What a call asks, from ARGV[2] on.
local function ask_of(ARGV)
  local ask = {replica = ARGV[2], key = ARGV[3], weight = math.max(1, whole(ARGV[4], 'weight')), model = ARGV[5],
    tokens = whole(ARGV[6], 'tokens'), candidates = {}, record = {}}
  local count, at = math.min(CANDIDATES_MAX, whole(ARGV[9], 'candidates')), 10
  for i = 1, count do
    ask.candidates[i] = {name = ARGV[at], slots = whole(ARGV[at + 1], 'slots'), cold = whole(ARGV[at + 2], 'cold'),
      equal = whole(ARGV[at + 3], 'equal'), from = whole(ARGV[at + 4], 'from')}
    at = at + 5
  end
  local lookups = {}
  count = math.min(DIGESTS_MAX, whole(ARGV[at], 'lookups'))
  for i = 1, count do lookups[i] = ARGV[at + i] end
  at = at + count + 1
  count = math.min(DIGESTS_MAX, whole(ARGV[at], 'records'))
  for i = 1, count do ask.record[i] = ARGV[at + i] end
  ask.home = whole(ARGV[at + count + 1] or '0', 'home')
  return ask, lookups
end
