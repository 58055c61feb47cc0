#!lua flags=allow-oom
-- End a run, and leave its lane free.
--
-- KEYS  1 lane   2 requests
-- ARGV  1 task   2 id of the request   3 token of the run   4 number that it serves   5 1 when it is done, 0 when it failed,
--       -1 when it failed since a server is away or cannot be used, which is tried again soon
--       6… all tasks of the lane
-- Returns the tasks of the lane that are wanted, those that have waited longest first. May be repeated.

local lane, requests, task = KEYS[1], KEYS[2], ARGV[1]
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local own = redis.call('HMGET', lane, 'token', 'began_ms')
if own[1] == ARGV[3] then redis.call('DEL', lane) end
if ARGV[5] == '1' then
  if tonumber(ARGV[4]) > (tonumber(redis.call('HGET', requests, task .. ':served')) or 0) then
    redis.call('HSET', requests, task .. ':served', ARGV[4])
  end
  redis.call('HSET', requests, task .. ':ended_ms', now_ms)
  if own[1] == ARGV[3] then redis.call('HSET', requests, task .. ':took_ms', now_ms - own[2]) end
  local wanted = redis.call('HGET', requests, task .. ':wanted')
  if wanted and string.match(wanted, '^%d+ (.*)$') == ARGV[2] then redis.call('HDEL', requests, task .. ':wanted') end
elseif ARGV[5] == '-1' then
  redis.call('HDEL', requests, task .. ':tried_ms')
  redis.call('HSET', requests, task .. ':away_ms', now_ms)
end

local found = {}
for i = 6, #ARGV do
  local wanted = redis.call('HGET', requests, ARGV[i] .. ':wanted')
  if wanted then found[#found + 1] = {tonumber(string.match(wanted, '^%d+')), ARGV[i]} end
end
table.sort(found, function(a, b) return a[1] < b[1] end)
for i, one in ipairs(found) do found[i] = one[2] end
return found
