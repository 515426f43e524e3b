"""What the server is asked to do in one piece, in Lua. KEYS[1] is the shop's prefix in all of them."""

from __future__ import annotations

_TRY = """
-- What a command answers; nil where its key is of another type, and an error where the server refuses it.
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) then return nil end
    return nil, answer
  end
  return answer
end
"""

READ = (
    _TRY
    + """
-- KEYS: prefix, events' keys, sets' keys. ARGV: most, number of events' keys, number of sets' keys, 1 for each owner's
-- JSON apart, then by table: table, version or '', number of keys, and bucket and key of each. Returns events and
-- members as JSON, rows, and the numbers of those whose keys are of another type: in that order, from 1.
local most, n_events, n_sets, apart = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local histories, sets, rows, bad = {}, {}, {}, {}
for i = 1, n_events do
  local events, refused = {}, nil
  if most > 0 then events, refused = try('ZRANGE', KEYS[1 + i], -most, -1) end
  if refused then return refused end
  if not events then bad[#bad + 1] = i end
  histories[i] = '[' .. table.concat(events or {}, ',') .. ']'
end
for i = 1, n_sets do
  local above = '(' .. string.format('%.0f', now)
  local members, refused = try('ZRANGEBYSCORE', KEYS[1 + n_events + i], above, '+inf')
  if refused then return refused end
  if not members then bad[#bad + 1] = n_events + i end
  sets[i] = '[' .. table.concat(members or {}, ',') .. ']'
end
local at = 5
while ARGV[at] do
  local name, version, n_keys, refused = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), nil
  if version == '' then version, refused = try('HGET', KEYS[1] .. 't:' .. name, 'published') end
  if refused then return refused end
  local base = version and KEYS[1] .. 'v:' .. name .. ':' .. version .. ':'
  for i = 1, n_keys do
    local row = version
    if version then row, refused = try('HGET', base .. ARGV[at + 1 + 2 * i], ARGV[at + 2 + 2 * i]) end
    if refused then return refused end
    rows[#rows + 1] = row or false
    if row == nil then bad[#bad + 1] = n_events + n_sets + #rows end
  end
  at = at + 3 + 2 * n_keys
end
if apart then return {histories, sets, rows, bad} end
return {'[' .. table.concat(histories, ',') .. ']', '[' .. table.concat(sets, ',') .. ']', rows, bad}
"""
)

APPEND = (
    _TRY
    + """
-- KEYS: prefix, owners' keys. ARGV: keep (ms), most, then by owner: number of events, and time and event of each.
-- Returns the numbers of the owners whose keys are of another type, from 1.
local keep, most, at, bad = ARGV[1], tonumber(ARGV[2]), 3, {}
for i = 2, #KEYS do
  local n = tonumber(ARGV[at])
  local kept, refused = try('ZCARD', KEYS[i])
  if refused then return refused end
  if kept then
    for j = at + 1, at + 2 * n, 1000 do
      redis.call('ZADD', KEYS[i], unpack(ARGV, j, math.min(j + 999, at + 2 * n)))
    end
    if redis.call('ZCARD', KEYS[i]) > most then redis.call('ZREMRANGEBYRANK', KEYS[i], 0, -most - 1) end
    redis.call('PEXPIRE', KEYS[i], keep)
  else
    bad[#bad + 1] = i - 1
  end
  at = at + 1 + 2 * n
end
return bad
"""
)

ADD = (
    _TRY
    + """
-- KEYS: prefix, owners' keys. ARGV: keep (ms), most, then by owner: number of members, and the members.
-- Returns the numbers of the owners whose keys are of another type, from 1.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local forgotten = string.format('%.0f', now + tonumber(ARGV[1]))
local most, at, bad = tonumber(ARGV[2]), 3, {}
for i = 2, #KEYS do
  local n = tonumber(ARGV[at])
  local kept, refused = try('ZCARD', KEYS[i])
  if refused then return refused end
  if kept then
    for j = at + 1, at + n do redis.call('ZADD', KEYS[i], 'GT', forgotten, ARGV[j]) end
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))
    if redis.call('ZCARD', KEYS[i]) > most then redis.call('ZREMRANGEBYRANK', KEYS[i], 0, -most - 1) end
    local last = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')
    if last[2] then redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', last[2])) end
  else
    bad[#bad + 1] = i - 1
  end
  at = at + 1 + n
end
return bad
"""
)

_KEEP = """
-- How long a table's own hash is kept: as long as the longest of its versions.
local function keep_table(key, keep)
  if keep == 0 then redis.call('PERSIST', key) return end
  local left = redis.call('PTTL', key)
  if left == -2 or (left >= 0 and left < keep) then redis.call('PEXPIRE', key, keep) end
end
local function expire(key, keep)
  if keep == 0 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, keep) end
end
local function forget(meta, base, version, buckets)
  redis.call('HDEL', meta, 'keep:' .. version)
  redis.call('UNLINK', base .. version)
  for first = 0, buckets - 1, 256 do
    local keys = {}
    for n = first, math.min(first + 255, buckets - 1) do keys[#keys + 1] = base .. version .. ':' .. n end
    redis.call('UNLINK', unpack(keys))
  end
end
"""

WRITE = (
    _KEEP
    + """
-- KEYS: prefix, table, version. ARGV: version, ms that it is kept unpublished, keep (ms; 0: for good), then by row:
-- bucket, key, row. Returns 0 where the version was published and is there.
local meta, mark = KEYS[2], KEYS[3]
local version, unpublished, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = redis.call('HMGET', meta, 'published', 'previous')
for place, name in ipairs({'published', 'previous'}) do
  if state[place] == version then
    if redis.call('EXISTS', mark) == 1 then return 0 end
    redis.call('HDEL', meta, name)  -- forgotten, and now made anew: not to be read before it is published again
  end
end
local fresh = redis.call('EXISTS', meta) == 0
redis.call('HSET', meta, 'keep:' .. version, keep)
if fresh then redis.call('PEXPIRE', meta, unpublished) else keep_table(meta, tonumber(unpublished)) end
redis.call('SET', mark, 1, 'PX', unpublished)
for i = 4, #ARGV, 3 do
  local bucket = mark .. ':' .. ARGV[i]
  redis.call('HSET', bucket, ARGV[i + 1], ARGV[i + 2])
  redis.call('PEXPIRE', bucket, unpublished)
end
return 1
"""
)

PUBLISH = (
    _KEEP
    + """
-- KEYS: prefix, table, start of its versions' keys. ARGV: version, buckets. Returns 0 where there is no such version.
local meta, base, version, buckets = KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local keep = tonumber(redis.call('HGET', meta, 'keep:' .. version))
if not keep or redis.call('EXISTS', base .. version) == 0 then return 0 end
expire(base .. version, keep)
for n = 0, buckets - 1 do expire(base .. version .. ':' .. n, keep) end
keep_table(meta, keep)
local state = redis.call('HMGET', meta, 'published', 'previous')
if state[1] == version then return 1 end
redis.call('HSET', meta, 'published', version)
if state[1] then redis.call('HSET', meta, 'previous', state[1]) elseif state[2] == version then
  redis.call('HDEL', meta, 'previous')
end
if state[1] and state[2] and state[2] ~= version then forget(meta, base, state[2], buckets) end
for _, field in ipairs(redis.call('HKEYS', meta)) do
  local other = string.match(field, '^keep:(.*)$')
  if other and redis.call('EXISTS', base .. other) == 0 then redis.call('HDEL', meta, field) end
end
return 1
"""
)

VERSIONS = """
-- KEYS: prefix, table, start of its versions' keys. Returns published or '', previous or '', and the others.
local state = redis.call('HMGET', KEYS[2], 'published', 'previous')
local found = {}
for place = 1, 2 do
  local version = state[place]
  found[place] = version and redis.call('EXISTS', KEYS[3] .. version) == 1 and version or ''
end
local others = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  local version = string.match(field, '^keep:(.*)$')
  if version and version ~= state[1] and version ~= state[2] and redis.call('EXISTS', KEYS[3] .. version) == 1 then
    others[#others + 1] = version
  end
end
table.sort(others)
for _, version in ipairs(others) do found[#found + 1] = version end
return found
"""

DROP = (
    _KEEP
    + """
-- KEYS: prefix, table, start of its versions' keys. ARGV: version, buckets.
local meta, base, version = KEYS[2], KEYS[3], ARGV[1]
for _, name in ipairs({'published', 'previous'}) do
  if redis.call('HGET', meta, name) == version then redis.call('HDEL', meta, name) end
end
forget(meta, base, version, tonumber(ARGV[2]))
"""
)
