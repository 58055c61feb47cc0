#!lua flags=allow-oom
-- Put unacknowledged messages back into their queues, unchanged byte for byte, and only those that are still there.
--
-- KEYS[1]   unacknowledged hash: delivery tag -> JSON [message, exchange, routing key]   (kombu's own format)
-- KEYS[2]   unacknowledged index: sorted set of the tags by the time they were fetched
-- KEYS[3]   stream of dead letters
-- ARGV[1]   'RPUSH' for the consuming end, 'LPUSH' for the other
-- ARGV[2]   at most so many bytes (the last message may pass it)
-- ARGV[3]   separator between queue and priority in the name of a list, ARGV[4] the priorities that have a list, "0,3,6,9"
-- ARGV[5]   'older': ARGV[6] restore what was fetched so many seconds ago or earlier, ARGV[7] at most so many messages (up to 500)
--           'tags':  ARGV[6..] restore these (up to 500), the first of them to be consumed first
--
-- Returns {how many tags were dealt with, how many messages were put back, tag, tag, ...}: the tags at the end are
-- messages of kombu's own making, with an exchange, whose queues only kombu can look up. They are left as they are.
-- The lists are named by the messages and so are not in KEYS: kombu's transport does not run on a cluster.
--
-- Everything is read before anything is written. A repeat finds nothing left to restore.

local unacked, index, dead = KEYS[1], KEYS[2], KEYS[3]
local push, max_bytes, separator, priorities = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now_s = redis.call('TIME')[1]
local backslash = 92
local longest_tail = 1000

local function priority_of(message)
  local at = string.find(message, '"priority"', 1, true)
  if not at then return 0 end
  if string.byte(message, at - 1) ~= backslash and not string.find(message, '"priority"', at + 1, true) then
    return tonumber(string.match(message, '^"priority"%s*:%s*"?(%d+)', at)) or 0
  end
  local decoded, content = pcall(cjson.decode, message)
  local properties = decoded and type(content) == 'table' and content.properties
  return type(properties) == 'table' and tonumber(properties.priority) or 0
end

local function list_of(queue, message)
  local wanted, step = priority_of(message), 0
  for priority in string.gmatch(priorities, '%d+') do
    if tonumber(priority) <= wanted then step = tonumber(priority) end
  end
  if step == 0 then return queue end
  return queue .. separator .. step
end

local tags
if ARGV[5] == 'older' then
  tags = redis.call('ZRANGEBYSCORE', index, '-inf', now_s - ARGV[6], 'LIMIT', 0, ARGV[7])
else
  tags = {unpack(ARGV, 6)}
  redis.call('ZCARD', index)
end
redis.call('XLEN', dead)

local done, foreign, dead_letters, lists, names = {}, {}, {}, {}, {}
local dealt, restored, bytes = 0, 0, 0
for _, tag in ipairs(tags) do
  if bytes >= max_bytes then break end
  dealt = dealt + 1
  local entry = redis.call('HGET', unacked, tag)
  if not entry then
    done[#done + 1] = tag
  else
    bytes = bytes + #entry
    local tail = string.sub(entry, -longest_tail)
    local from, _, queue = string.find(tail, ', "", "([^"\\]+)"%]$')
    if from and string.sub(entry, 1, 1) == '[' then
      local message = string.sub(entry, 2, #entry - #tail + from - 1)
      local list = list_of(queue, message)
      if not lists[list] then
        local kind = redis.call('TYPE', list).ok
        if kind == 'list' or kind == 'none' then
          lists[list] = {}
          names[#names + 1] = list
        end
      end
      if lists[list] then
        table.insert(lists[list], message)
        restored = restored + 1
      else
        dead_letters[#dead_letters + 1] = {message, 'message: its queue is not a list'}
      end
      done[#done + 1] = tag
    elseif pcall(cjson.decode, entry) then
      foreign[#foreign + 1] = tag
    else
      dead_letters[#dead_letters + 1] = {entry, 'message: the unacknowledged entry is not JSON'}
      done[#done + 1] = tag
    end
  end
end

for _, letter in ipairs(dead_letters) do
  redis.call('XADD', dead, '*', 'kind', 'message', 'body', letter[1], 'reason', letter[2], 'at_s', now_s)
end
for _, list in ipairs(names) do
  local messages, in_order = lists[list], {}
  -- What is pushed last to the consuming end is consumed first, and the reverse at the other end.
  for i = #messages, 1, -1 do in_order[#in_order + 1] = messages[i] end
  redis.call(push, list, unpack(push == 'RPUSH' and in_order or messages))
end
if #done > 0 then
  redis.call('HDEL', unacked, unpack(done))
  redis.call('ZREM', index, unpack(done))
end
return {dealt, restored, unpack(foreign)}
