#!lua flags=allow-oom
-- Set unacknowledged messages aside until they are due. A repeat changes nothing.
--
-- KEYS  1 unacked hash   2 unacked index   3 delayed: see restore.lua   4 totals
-- ARGV  delivery tag, when it is due (Unix seconds), …
-- Returns the tags of those that are due already, by the clock of this server: they are left as they are.

local unacked, index, delayed, totals = unpack(KEYS)
local clock = redis.call('TIME')
local now_s = clock[1] + clock[2] / 1e6
local due, postponed, scores, ours = {}, {}, {}, 0
for i = 1, #ARGV, 2 do
  local entry = redis.call('HGET', unacked, ARGV[i])
  if entry and tonumber(ARGV[i + 1]) <= now_s then
    due[#due + 1] = ARGV[i]
  elseif entry then
    postponed[#postponed + 1] = ARGV[i]
    scores[#scores + 1], scores[#scores + 2] = ARGV[i + 1], #ARGV[i] .. ':' .. ARGV[i] .. entry
    if string.sub(ARGV[i], 1, 10) == 'analytics/' then ours = ours + 1 end
  end
end
for _, key in ipairs({index, delayed}) do redis.call('ZCARD', key) end
redis.call('HLEN', totals)

if #postponed > 0 then
  redis.call('ZADD', delayed, unpack(scores))
  if ours > 0 then redis.call('HINCRBY', totals, 'delayed_messages', ours) end
  redis.call('HDEL', unacked, unpack(postponed))
  redis.call('ZREM', index, unpack(postponed))
end
return due
