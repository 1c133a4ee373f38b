--[[
  What `place` would do with a call. Changes nothing.

  KEYS and ARGV are those of `place`; the id is not looked at.

  Returns as `place`, and at the end the backend that served the longest known beginning of the prompt last, or ''.
]]
local function foresee(KEYS, ARGV)
  local f, now = fleet_at(KEYS), now_ms()
  local ask, lookups = ask_of(ARGV)
  ask.affinity = mindful(f, lookups)
  local depth, seen = depth_of(f, ask.model), nothing_seen()
  local candidate = chosen(f, ARGV, ask, depth + 1, now, seen)
  if candidate then
    local loads = needs_load(candidate, ask.model, now, seen) and 1 or 0
    return {1, candidate.name, loads, candidate.name == ask.affinity and 1 or 0, ask.affinity or ''}
  end
  if depth >= whole(ARGV[7], 'depth') then return {-1, depth, ask.affinity or ''} end
  return {0, position(f, ask), depth, ask.affinity or ''}
end
redis.register_function{function_name = 'LIBRARY_foresee', callback = foresee, flags = {'no-writes'}}
