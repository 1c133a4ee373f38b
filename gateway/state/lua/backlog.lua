--[[
  What usage that is no rows yet may take of memory. Nothing is trimmed: whoever asks lets no new call in instead.
]]
local EVENT_BYTES_MAX = 16384  -- of one event, however long its texts: a test writes the longest

-- Whether the events of a shard, waiting and dead, take more than `bytes_max`. Few cannot, so that they are not weighed.
local function backlogged(usage, dead, bytes_max)
  local events = redis.call('XLEN', usage) + redis.call('XLEN', dead)
  if events * EVENT_BYTES_MAX <= bytes_max then return false end
  local bytes = (redis.call('MEMORY', 'USAGE', usage) or 0) + (redis.call('MEMORY', 'USAGE', dead) or 0)
  return bytes > bytes_max
end
