#!lua flags=allow-oom
-- Take messages from the lists of a queue and enter them as unacknowledged, in one step: at no instant does a message
-- exist only in the memory of a process.
--
-- KEYS  1 unacknowledged hash: delivery tag -> JSON [message, exchange, routing key], kombu's own format
--       2 unacknowledged index: sorted set of the tags by the time they were fetched   3 totals
--       4… the lists to take from, in the order of preference; the right end is the consuming end
-- ARGV  1 at most so many messages (up to 500)   2 at most so many bytes (the last message may pass it)
--       3 mark of who fetches, in the tags   4… for each list, the name of its queue as a JSON string
-- Returns {tag, message, tag, message, ...}. A repeat is harmless: what a lost reply held is given back, by its mark or after the
-- visibility timeout. Everything is read before anything is written, so a key of a wrong type ends the script with nothing changed.

local unacked, index, totals = KEYS[1], KEYS[2], KEYS[3]
local max_messages, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local before_lists, largest_chunk = 3, 32
local longest_ending = 80 -- bytes of a message, of which a tag of the usual length leaves some

-- kombu and our own producers write the tag last. Messages without one there are known by the rest of their tag alone.
local find, match = string.find, string.match
local function tag_of(message)
  local at = find(message, '"delivery_tag"', -longest_ending, true)
  return at and match(message, '^"delivery_tag": ?"([%w/-]+)"}}$', at) or ''
end

local found, endings, taken = {}, {}, {}
local messages, bytes = 0, 0
for position = 1, #KEYS - before_lists do
  local list, count, chunk = KEYS[before_lists + position], 0, 1
  while messages < max_messages and bytes < max_bytes do
    chunk = math.min(chunk, max_messages - messages)
    -- Chunks that double: few calls for small messages, little read in vain for large ones.
    local texts = redis.call('LRANGE', list, -(count + chunk), -(count + 1))
    for i = #texts, 1, -1 do
      if bytes >= max_bytes then break end
      count, messages, bytes = count + 1, messages + 1, bytes + #texts[i]
      found[messages * 2], endings[messages * 2] = texts[i], ', "", ' .. ARGV[3 + position] .. ']'
    end
    if #texts < chunk then break end
    chunk = math.min(chunk * 2, largest_chunk)
  end
  if count > 0 then taken[#taken + 1] = {list, count} end
end
if messages == 0 then return {} end
redis.call('ZCARD', index)

-- Every fetch gives a message a tag of its own. With the tag in its text, a slow worker that counts a message which was
-- restored meanwhile would take it away from the worker that has fetched it since.
-- The queue is cut last: should any of this ever fail half-way, a message is there twice, not gone.
local suffix, entries, scores = '~' .. ARGV[3] .. redis.call('HINCRBY', totals, 'fetches', 1) .. '.', {}, {}
for i = 1, messages * 2, 2 do
  local tag = tag_of(found[i + 1]) .. suffix .. (i + 1) / 2
  found[i] = tag
  entries[i], entries[i + 1] = tag, '[' .. found[i + 1] .. endings[i + 1]
  scores[i], scores[i + 1] = now, tag
end
redis.call('HSET', unacked, unpack(entries))
redis.call('ZADD', index, unpack(scores))
for _, cut in ipairs(taken) do redis.call('LTRIM', cut[1], 0, -(cut[2] + 1)) end
return found
