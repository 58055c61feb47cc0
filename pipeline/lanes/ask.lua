#!lua flags=allow-oom
-- Give a request of a run its number, unless one was sent a moment ago that no run has served yet, or the run is not due.
--
-- KEYS  1 requests   2 lane
-- ARGV  1 task   2 for how long another request is not sent again (ms)
--       3 how long after the last run that was done began the next is due (ms), 0 for at once
--       4 for how long one that began and is not done is not asked for again (ms); some seconds where a server was away
--       5 where none was done: how long after this was first asked it is due (ms)
-- Returns the number, or 0 where none is to be sent. A number that is not used does no harm.

local AWAY_MS = 10000
local requests, task = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function noted(field)
  return tonumber(redis.call('HGET', requests, task .. ':' .. field)) or 0
end

local asked, began = noted('asked'), noted('began')
if asked > began and now_ms - noted('asked_ms') < tonumber(ARGV[2]) then return 0 end
local due_ms = tonumber(ARGV[3])
if due_ms > 0 then
  local began_ms, ended_ms, retry_ms = noted('began_ms'), noted('ended_ms'), tonumber(ARGV[4])
  local is_away = began_ms > 0 and noted('away_ms') >= began_ms
  local done_ms = ended_ms - noted('took_ms')
  if noted('tried_ms') > ended_ms or is_away then
    done_ms = -math.huge -- what failed, or was killed, was due
  elseif done_ms <= 0 then
    redis.call('HSETNX', requests, task .. ':since_ms', now_ms)
    done_ms, due_ms = noted('since_ms'), tonumber(ARGV[5])
  end
  if now_ms - done_ms < due_ms then return 0 end
  if is_away then retry_ms = math.min(retry_ms, AWAY_MS) end
  if now_ms - began_ms < retry_ms then return 0 end
  if redis.call('HGET', KEYS[2], 'task') == task then return 0 end
end
redis.call('HSET', requests, task .. ':asked', asked + 1, task .. ':asked_ms', now_ms)
return asked + 1
