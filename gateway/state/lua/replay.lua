--[[
  Move dead events back to where the worker reads, without what was written on them when they died. In one step, so that
  none is ever in both streams or in neither; an event that becomes a row twice is one row, by its id.

  KEYS[1] usage  [2] dead
  ARGV[1] first and [2] last entry, as XRANGE takes them  [3] how many are looked at, at most

  Returns {looked at, moved, id of the last one looked at, or ''}. An entry without a body, or with more fields than any
          event has, stays where it is: nothing can be made of it
]]
local DEAD_FIELD = '^dead_'
local BODY_MAX = 128  -- names and values; many times what an event has

local function replay(KEYS, ARGV)
  local entries, moved, seen = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[2], 'COUNT', whole(ARGV[3], 'count')), 0, ''
  for _, entry in ipairs(entries) do
    local body = {}
    for i = 1, #entry[2], 2 do
      if not string.find(entry[2][i], DEAD_FIELD) then
        body[#body + 1] = entry[2][i]
        body[#body + 1] = entry[2][i + 1]
      end
    end
    if body[1] and #body <= BODY_MAX then
      redis.call('XADD', KEYS[1], '*', unpack(body))
      redis.call('XDEL', KEYS[2], entry[1])
      moved = moved + 1
    end
    seen = entry[1]
  end
  return {#entries, moved, seen}
end
redis.register_function{function_name = 'LIBRARY_replay', callback = replay, flags = {'allow-oom'}}
