--[[
  Count an address's failure to say who it is; so many a minute are heard out.

  KEYS[1] failures
  ARGV[1] failures a minute  [2] 1 to count one, 0 to ask only

  Returns 0, or the milliseconds for which the address is not heard.
]]
local function blame(KEYS, ARGV)
  local now, count = clock(), whole(ARGV[2], 'count')
  local limit = whole(ARGV[1], 'limit')
  local bucket = bucket_of('failures', '', limit, limit, now)
  refill(bucket, redis.call('GET', KEYS[1]), now)
  local wait = wait_ms(bucket, 1, now)
  if wait > 0 or count == 0 then return wait end
  bucket.level = bucket.level - bucket.den
  redis.call('SET', KEYS[1], pack(bucket), 'PX', wait_ms(bucket, bucket.capacity, now) + 1000)
  return 0
end
redis.register_function('LIBRARY_blame', blame)
