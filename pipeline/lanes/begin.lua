#!lua flags=allow-oom
-- Begin a run of a task, if its lane is free. It serves every request made before: those that wait in the queue leave it.
--
-- KEYS  1 lane   2 requests   3… lists of the queue, where Redis is the broker
-- ARGV  1 task   2 id of the request   3 its number, 0 for none   4 token of this run   5 lifetime of the lane (ms)
--       6… bodies of plain messages
-- Returns {1, number of the newest request that the run serves, requests that left the queue};
--         {0} where another run is under way, after which this task is wanted; {-1} where a run that began later is done.
--
-- A message that returned to its queue while its own run goes on is noted under its id: `end.lua` takes that note away.

local lane, requests, task, id = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local most_joined = 5000

local function none(value)
  return value == nil or value == cjson.null
end

local function is_plain(text)
  if not string.find(text, task, 1, true) then return false end
  local decoded, message = pcall(cjson.decode, text)
  local headers = decoded and type(message) == 'table' and message.headers
  if type(headers) ~= 'table' or headers.task ~= task then return false end
  if not (none(headers.eta) and none(headers.group)) then return false end
  local limits = headers.timelimit
  if type(limits) == 'table' and not (none(limits[1]) and none(limits[2])) then return false end
  for i = 6, #ARGV do
    if message.body == ARGV[i] then return true end
  end
  return false
end

local number = tonumber(ARGV[3])
if number > 0 and number <= (tonumber(redis.call('HGET', requests, task .. ':served')) or 0) then return {-1} end

local owner = redis.call('HGET', lane, 'id')
if owner then
  local wanted = redis.call('HGET', requests, task .. ':wanted')
  if not wanted then
    redis.call('HSET', requests, task .. ':wanted', now_ms .. ' ' .. id)
  elseif id ~= owner and string.match(wanted, '^%d+ (.*)$') == owner then
    redis.call('HSET', requests, task .. ':wanted', string.match(wanted, '^%d+') .. ' ' .. id)
  end
  return {0}
end

local joined = 0
for i = 3, #KEYS do
  local texts = redis.call('LRANGE', KEYS[i], -most_joined, -1)
  local here = 0
  for at, text in ipairs(texts) do
    if is_plain(text) then
      redis.call('LSET', KEYS[i], at - #texts - 1, '')
      here = here + 1
    end
  end
  if here > 0 then redis.call('LREM', KEYS[i], 0, '') end
  joined = joined + here
end

local asked = tonumber(redis.call('HGET', requests, task .. ':asked')) or 0
redis.call('HDEL', requests, task .. ':wanted')
redis.call('HSET', requests, task .. ':began', asked, task .. ':began_ms', now_ms)
local function noted(field) return tonumber(redis.call('HGET', requests, task .. ':' .. field)) or 0 end
-- Of runs that fail one after the other, when the first began.
if noted('tried_ms') <= noted('ended_ms') then redis.call('HSET', requests, task .. ':tried_ms', now_ms) end
redis.call('HINCRBY', requests, task .. ':runs', 1)
redis.call('HSET', lane, 'task', task, 'id', id, 'token', ARGV[4], 'began_ms', now_ms)
redis.call('PEXPIRE', lane, ARGV[5])
return {1, asked, joined}
