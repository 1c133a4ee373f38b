--[[
  Set entries aside that no row can be made of: out of the usage stream, into the dead one, with the reason.

  KEYS[1] usage  [2] dead
  ARGV[1] group  then for each: entry, reason, how many texts its body has, those (name, value, …)

  Returns how many were moved. Those that the group does not have pending any more are with the dead already.
]]
local function bury(KEYS, ARGV)
  local at, moved = 2, 0
  while at <= #ARGV do
    local entry, reason, count = ARGV[at], ARGV[at + 1], whole(ARGV[at + 2], 'count')
    if redis.call('XACK', KEYS[1], ARGV[1], entry) == 1 then
      local body = {'dead_reason', reason, 'dead_entry', entry}
      for i = at + 3, at + 2 + count do body[#body + 1] = ARGV[i] end
      redis.call('XADD', KEYS[2], '*', unpack(body))
      redis.call('XDEL', KEYS[1], entry)
      moved = moved + 1
    end
    at = at + 3 + count
  end
  return moved
end
redis.register_function{function_name = 'LIBRARY_bury', callback = bury, flags = {'allow-oom'}}
