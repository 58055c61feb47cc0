#!lua flags=allow-oom
-- Put messages back into their queues, unchanged byte for byte, each into the list of its priority: unacknowledged ones, or
-- delayed ones that are due. Only those that are still there. A repeat finds nothing left to restore.
--
-- KEYS  1 unacknowledged hash: delivery tag -> JSON [message, exchange, routing key]   (kombu's own format)
--       2 unacknowledged index: sorted set of the tags by the time they were fetched   3 stream of dead letters
--       4 delayed: sorted set of entries of the unacknowledged hash by the time they are due, each after its tag and the
--         length of that ("3:tag[…]")   5 totals
-- ARGV  1 at most so many bytes (the last message may pass it)
--       2 'older' restore what was fetched 3 seconds ago or earlier   'due' what is due; 3 is empty
--           4 at most so many messages (up to 500)
--         'tags'  restore 3… (up to 500), the first of them to be consumed first   'purge' remove all that is delayed
-- Returns {how many were dealt with, how many were put back, for 'due': seconds until the next is due, or ''}.
-- The lists are named by the messages and so are not in KEYS: the queues do not run on a cluster.
-- Everything is read before anything is written.

local unacked, index, dead, delayed, totals = unpack(KEYS)
local max_bytes, mode = tonumber(ARGV[1]), ARGV[2]
local clock = redis.call('TIME')
local now_s = clock[1] + clock[2] / 1e6
local backslash, separator, ours = 92, '\6\22', 'analytics/'
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
  local step = math.min(math.floor(priority_of(message) / 3) * 3, 9)
  return step > 0 and queue .. separator .. step or queue
end

if mode == 'purge' then
  local purged = redis.call('ZCARD', delayed)
  redis.call('HDEL', totals, 'delayed_messages')
  redis.call('UNLINK', delayed)
  return {purged, 0, ''}
end

local members -- tags, or members of the delayed ones
if mode == 'older' then
  members = redis.call('ZRANGEBYSCORE', index, '-inf', now_s - ARGV[3], 'LIMIT', 0, ARGV[4])
elseif mode == 'due' then
  members = redis.call('ZRANGEBYSCORE', delayed, '-inf', string.format('%.6f', now_s), 'LIMIT', 0, ARGV[4])
else
  members = {unpack(ARGV, 3)}
  redis.call('ZCARD', index)
end
redis.call('XLEN', dead)
redis.call('HLEN', totals)

local done, dead_letters, lists, names = {}, {}, {}, {}
local restored, bytes, no_longer_delayed = 0, 0, 0
for _, member in ipairs(members) do
  if bytes >= max_bytes then break end
  local entry, tag = nil, member
  if mode == 'due' then
    local size, rest = string.match(member, '^(%d+):(.*)$')
    tag, entry = string.sub(rest, 1, size), string.sub(rest, size + 1)
  else
    entry = redis.call('HGET', unacked, tag)
  end
  done[#done + 1] = member
  if entry then
    bytes = bytes + #entry
    local tail = string.sub(entry, -longest_tail)
    local from, _, queue = string.find(tail, ', "", "([^"\\]+)"%]$')
    local message = from and string.sub(entry, 1, 1) == '[' and string.sub(entry, 2, #entry - #tail + from - 1)
    local list = message and list_of(queue, message)
    if list and not lists[list] then
      local kind = redis.call('TYPE', list).ok
      if kind == 'list' or kind == 'none' then
        lists[list] = {}
        names[#names + 1] = list
      end
    end
    if list and lists[list] then
      table.insert(lists[list], message)
      restored = restored + 1
    else
      local reason = list and 'its queue is not a list' or 'the unacknowledged entry names no queue of ours'
      dead_letters[#dead_letters + 1] = {message or entry, 'message: ' .. reason}
    end
    if string.sub(tag, 1, #ours) == ours then no_longer_delayed = no_longer_delayed + 1 end
  end
end

for _, letter in ipairs(dead_letters) do
  redis.call('XADD', dead, '*', 'kind', 'message', 'body', letter[1], 'reason', letter[2], 'at_s', clock[1])
end
for _, list in ipairs(names) do
  local messages, in_order = lists[list], {}
  -- What is pushed last to the consuming end is consumed first. What is due waits its turn at the other end.
  for i = #messages, 1, -1 do in_order[#in_order + 1] = messages[i] end
  if mode == 'due' then redis.call('LPUSH', list, unpack(messages)) else redis.call('RPUSH', list, unpack(in_order)) end
end
if #done > 0 and mode == 'due' then
  redis.call('ZREM', delayed, unpack(done))
  if no_longer_delayed > 0 then redis.call('HINCRBY', totals, 'delayed_messages', -no_longer_delayed) end
elseif #done > 0 then
  redis.call('HDEL', unacked, unpack(done))
  redis.call('ZREM', index, unpack(done))
end
local next_due = mode == 'due' and redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return {#done, restored, next_due and string.format('%.3f', math.max(0, next_due - now_s)) or ''}
