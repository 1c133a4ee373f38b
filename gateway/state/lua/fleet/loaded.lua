--[[
  A node has a model now that was being loaded for one of our calls: those that wait for it can have its other slots.

  KEYS    the fleet's
  ARGV    for each: backend, model

  Returns how many loads have ended.
]]
local function loaded(KEYS, ARGV)
  local f, now, ended = fleet_at(KEYS), now_ms(), 0
  for at = 1, #ARGV, 2 do
    local id, model = loading(f, ARGV[at])
    if id and model == ARGV[at + 1] then
      end_load(f, ARGV[at], id, model, now, true)
      ended = ended + 1
    end
  end
  if ended > 0 then grant(f, now) end
  return ended
end
redis.register_function{function_name = 'LIBRARY_loaded', callback = loaded, flags = {'allow-oom'}}
