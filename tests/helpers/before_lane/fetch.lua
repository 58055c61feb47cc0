#!lua flags=allow-oom
-- Take messages from kombu's queue lists and enter them as unacknowledged, in one step: at no instant does a message
-- exist only in the memory of a process.
--
-- KEYS  1 unacknowledged hash: delivery tag -> JSON [message, exchange, routing key], kombu's own format
--       2 unacknowledged index: sorted set of the tags by the time they were fetched   3 dead letters   4 totals
--       5… the lists to take from, in the order of preference; the right end is the consuming end
-- ARGV  1 at most so many messages (up to 500)   2 at most so many bytes (the last message may pass it)
--       3… for each list, the name of its queue as a JSON string
-- Returns {{position of the list from 1, tag, message, tag, message, ...}, ...}, lists without messages left out.
-- A repeat is harmless: what a lost reply held is restored after the visibility timeout. Everything is read before anything
-- is written, so a key of a wrong type ends the script with nothing changed.

local unacked, index, dead, totals = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local max_messages, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local before_lists = 4
local backslash, brace, closing_brace = 92, 123, 125
local longest_ending = 80 -- bytes of a message, of which a tag of the usual length leaves some
local largest_chunk = 32

-- What is no UTF-8 could not be named to us again.
local function to_text(tag) return (string.gsub(tag, '[\128-\255]', '?')) end

-- In JSON text the bytes "delivery_tag" with both quotes are a key or a value of that name, or the end of a string that
-- holds an escaped quote. kombu and our own producers write the tag last, where it is found soonest. Elsewhere one
-- occurrence in the form of a key is the tag; whatever looks different is decoded.
local find, match, byte = string.find, string.match, string.byte
local function tag_of(message)
  if byte(message) == brace and byte(message, -1) == closing_brace then
    local at = find(message, '"delivery_tag"', -longest_ending, true)
    local tag = at and byte(message, at - 1) ~= backslash and match(message, '^"delivery_tag": ?"([%w/-]+)"}}$', at)
    if tag then return tag end
    at = find(message, '"delivery_tag"', 1, true)
    if at and not find(message, '"delivery_tag"', at + 1, true) and byte(message, at - 1) ~= backslash then
      tag = match(message, '^"delivery_tag"%s*:%s*"([^"\\]+)"', at)
      if tag then return to_text(tag) end
    end
  end
  local decoded, content = pcall(cjson.decode, message)
  if not decoded then return nil, 'not JSON: ' .. tostring(content) end
  local properties = type(content) == 'table' and content.properties
  local tag = type(properties) == 'table' and properties.delivery_tag
  if type(tag) == 'number' then return string.format('%.17g', tag) end
  if type(tag) == 'string' and tag ~= '' then return to_text(tag) end
  return nil, 'no properties.delivery_tag'
end

local reply, dead_letters, taken = {}, {}, {}
local messages, bytes = 0, 0

for position = 1, #KEYS - before_lists do
  local list, found = KEYS[before_lists + position], {position}
  local count, chunk = 0, 1
  while messages < max_messages and bytes < max_bytes do
    chunk = math.min(chunk, max_messages - messages)
    -- Chunks that double: few calls for small messages, little read in vain for large ones.
    local texts = redis.call('LRANGE', list, -(count + chunk), -(count + 1))
    for i = #texts, 1, -1 do
      if bytes >= max_bytes then break end
      local message = texts[i]
      count, messages, bytes = count + 1, messages + 1, bytes + #message
      local tag, reason = tag_of(message)
      if tag then
        found[#found + 1], found[#found + 2] = tag, message
      else
        dead_letters[#dead_letters + 1] = {message, 'message: ' .. reason}
      end
    end
    if #texts < chunk then break end
    chunk = math.min(chunk * 2, largest_chunk)
  end
  if count > 0 then taken[#taken + 1] = {list, count} end
  if #found > 1 then reply[#reply + 1] = found end
end

if messages == 0 then return {} end

redis.call('ZCARD', index)
redis.call('XLEN', dead)
redis.call('HLEN', totals)

-- Every fetch gives a message a tag of its own. With the tag in its text, a slow worker that acknowledges a message which
-- was restored meanwhile would take it away from the worker that has fetched it since.
local entries, scores, size = {}, {}, 0
if #reply > 0 then
  local ending = '~' .. redis.call('HINCRBY', totals, 'fetches', 1) .. '.'
  for _, found in ipairs(reply) do
    local suffix = ', "", ' .. ARGV[2 + found[1]] .. ']'
    for i = 2, #found, 2 do
      local tag = found[i] .. ending .. (size / 2 + 1)
      found[i] = tag
      entries[size + 1], entries[size + 2] = tag, '[' .. found[i + 1] .. suffix
      scores[size + 1], scores[size + 2] = now, tag
      size = size + 2
    end
  end
end

-- The queue is cut last: should any of this ever fail half-way, a message is there twice, not gone.
if #entries > 0 then
  redis.call('HSET', unacked, unpack(entries))
  redis.call('ZADD', index, unpack(scores))
end
for _, letter in ipairs(dead_letters) do
  redis.call('XADD', dead, '*', 'kind', 'message', 'body', letter[1], 'reason', letter[2], 'at_s', clock[1])
  local books = {'consumed', 'dead', 'consumed:__unknown__', 'dead:__unknown__'}
  for _, field in ipairs(books) do redis.pcall('HINCRBY', totals, field, 1) end
end
for _, cut in ipairs(taken) do redis.call('LTRIM', cut[1], 0, -(cut[2] + 1)) end
return reply
