"""The ledger's scripts: each change of the ledger is one Lua script, which Redis runs whole or not at all.

Every script is handed all keys of the ledger, in the order of KEYS, and looks at the types and the epoch before it
writes anything: a script that fails later would leave half a change. A reply is a list whose first word says how it
went: `ok`, `lost` (another epoch), `junk` (key, what is wrong), `moved` (the newest audit line is another: number,
hash), or a word of the script's own. The commands are those of Redis 6.2.
"""

from __future__ import annotations

from agents.ledger_keys import BEGIN, CHAINED, OPENED, UNMOVED

OPEN = (
    BEGIN
    + """
local id, after_loss, reconciled = unpack(redis.call('HMGET', EPOCH, 'id', 'after_loss', 'reconciled'))
local new_id, known, expected = ARGV[1], ARGV[5], ARGV[6] == '1'
if redis.call('EXISTS', FENCE) == 0 then id = false end
-- another epoch than the caller knew, and not begun as one after a loss: nobody has noticed the loss yet
local unnoticed = id and expected and known ~= '' and id ~= known and after_loss ~= '1'
if id and not unnoticed then return {'ok', id, (after_loss == '1' and reconciled ~= '1') and '1' or '0'} end
"""
    + UNMOVED
    + """
redis.call('HSET', EPOCH, 'id', id or new_id, 'after_loss', expected and '1' or '0', 'reconciled', '0')
local fence = tonumber(redis.call('GET', FENCE) or '0') or 0
if fence < tonumber(ARGV[7]) then redis.call('SET', FENCE, ARGV[7]) end
if expected then redis.call('HSET', SWITCHES, 'fleet', ARGV[8]) end
redis.call('RPUSH', AUDIT, ARGV[4])
return {'begun', id or new_id, ARGV[6]}
"""
)
"""A new epoch's id; (chain); the epoch known before; expected; the least fence; the thrown switch."""

RECONCILED = (
    OPENED
    + """
redis.call('HSET', EPOCH, 'reconciled', '1')
return {'ok'}
"""
)

RECORD = (
    CHAINED
    + """
local id, kept = ARGV[5], ARGV[6]
local stands = redis.call('HGET', RECORDS, id)
if stands then return {'stands', stands} end
redis.call('HSET', RECORDS, id, kept)
redis.call('ZADD', UNDER_WAY, newest.number + 1, id)
redis.call('RPUSH', AUDIT, ARGV[4])
return {'ok'}
"""
)
"""(chain); id; record."""

CLAIM = (
    OPENED
    + """
local id, target, workload, owner = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lease_ms, in_flight, per_hour = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local wall_ms, mode_rank, stacks = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11] == '1'
local one_by_one, at_gateways = ARGV[12] == '1', tonumber(ARGV[13])
local function refused(code, detail) return {'refused', code, detail} end

local stands = redis.call('HGET', RECORDS, id)
if not stands then return refused('ledger_lost', 'the ledger has no record of it') end
local kept = decode(stands)
if not kept or type(kept.record) ~= 'table' or type(kept.record.phase) ~= 'string' then
  return {'junk', RECORDS, 'field ' .. id .. ' is no record'}
end
local phase = kept.record.phase
if phase == 'ended' then return refused('in_flight', 'it has ended already') end
local has_begun = phase ~= 'recorded'
local has_ordered = has_begun and phase ~= 'planned' and not (one_by_one and phase == 'applying')

local switches = {}
for i, field in ipairs({'fleet', 'kill:' .. workload, 'mode:' .. workload}) do
  local text = redis.call('HGET', SWITCHES, field)
  switches[i] = text and decode(text) or {}
  if text and type(switches[i].rank) ~= 'number' then
    return {'junk', SWITCHES, 'field ' .. field .. ' is no switch'}
  end
end
local fleet, kill, mode = unpack(switches)
local code, detail = '', ''
if phase == 'undoing' then
  code = ''
elseif fleet.killed == true then
  code = fleet.lost == true and 'ledger_lost' or 'kill_switch'
  detail = 'for the whole fleet, by ' .. tostring(fleet.why)
elseif kill.killed == true then
  code, detail = 'kill_switch', 'for ' .. workload .. ', by ' .. tostring(kill.why)
elseif not has_ordered and mode_rank >= 0 and mode.rank and mode.rank > mode_rank then
  code, detail = 'advisory_mode', tostring(mode.why)
end
if code ~= '' and not has_begun then return refused(code, detail) end

local followed = redis.call('HEXISTS', FOLLOWED, id) == 1
local takes_again = followed and phase == 'undoing'
local held = redis.call('HMGET', LEASE, 'owner', 'action', 'fence')
local mine = held[1] == owner and held[2] == id and not takes_again and held[3]
if held[1] and held[1] ~= owner then
  return refused('in_flight', target .. ' is held by ' .. held[1] .. ' for action ' .. tostring(held[2]))
end
local holder = redis.call('HGET', TARGETS, target)
if holder and holder ~= id and (takes_again or not followed) then
  return refused('in_flight', 'action ' .. holder .. ' is under way on ' .. target)
end
-- one that was let in is not counted again
local is_new = not holder and not followed
if is_new then
  local others = stacks and {} or redis.call('HGETALL', FOLLOWED)
  for i = 2, #others, 2 do
    if others[i] == target then
      return refused('in_flight', 'action ' .. others[i - 1] .. ' is followed on ' .. target)
    end
  end
  local busy = redis.call('HLEN', TARGETS)
  if busy >= in_flight then
    return refused('fleet_limit', busy .. ' actions are under way in the fleet, the limit is ' .. in_flight)
  end
  if at_gateways > 0 then
    local there, parts = 0, {queue = 1, context = 1, breaker = 1}
    for _, each in ipairs(redis.call('HKEYS', TARGETS)) do there = there + (parts[each:match('[^/]*$')] or 0) end
    if there >= at_gateways then
      return refused('fleet_limit', there .. ' actions are under way at gateways, the limit is ' .. at_gateways)
    end
  end
  local hour_ago = string.format('(%.0f', wall_ms - 3600000)
  local begun = redis.call('ZCOUNT', BEGUN, hour_ago, '+inf')
  if begun >= per_hour then
    return refused('rate_limit', begun .. ' actions began in the last hour, the limit is ' .. per_hour)
  end
end

local fence = mine and held[3]
if not fence then
  local text = redis.call('GET', FENCE)
  if not text:match('^%d+$') then return {'junk', FENCE, 'it is no number'} end
  redis.call('INCR', FENCE)
  fence = redis.call('GET', FENCE)
end
if takes_again then
  redis.call('HSET', TARGETS, target, id)
  redis.call('HDEL', FOLLOWED, id)
end
if is_new then
  redis.call('HSET', TARGETS, target, id)
  redis.call('ZREMRANGEBYSCORE', BEGUN, '-inf', string.format('%.0f', wall_ms - 3600000))
  redis.call('ZADD', BEGUN, ARGV[9], id)
end
redis.call('HSET', LEASE, 'owner', owner, 'action', id, 'fence', fence)
redis.call('PEXPIRE', LEASE, lease_ms)
return {'ok', fence, code, detail}
"""
)
"""Action id, target, workload, owner; lease in ms; limits: in flight, an hour; wall ms; how narrow the action's mode is
(-1: a person approved it); whether it stacks; whether its orders go out one by one, so that a mode bars the next;
how many may be under way at gateways (0: any)."""

RELEASE = OPENED + "if redis.call('HGET', LEASE, 'owner') == ARGV[2] then redis.call('DEL', LEASE) end return {'ok'}"
"""Owner."""

ADVANCE = (
    CHAINED
    + """
local id, kept, version, owner, fence = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local ends, target, wall_ms = ARGV[10] == '1', ARGV[11], tonumber(ARGV[12])
local keep, keep_ms, follows = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15] == '1'
local never_began = ARGV[16] == '1'

local stands = redis.call('HGET', RECORDS, id)
if not stands then return {'stale'} end
local held = redis.call('HMGET', LEASE, 'owner', 'action', 'fence')
local mine = held[1] == owner and held[2] == id and held[3] == fence
-- the same writer again, whose answer was lost on its way
if stands == kept then return (ends or mine) and {'ok'} or {'stale'} end

local was = decode(stands)
was = was and was.record
if type(was) ~= 'table' or type(was.phase) ~= 'string' or type(was.version) ~= 'number' then
  return {'junk', RECORDS, 'field ' .. id .. ' is no record'}
end
if was.version + 1 ~= version then return {'stale'} end
if fence == '0' then
  local others = held[2] == id and held[1] ~= owner
  if was.phase ~= 'recorded' or not ends or others then return {'stale'} end
elseif not mine then
  return {'stale'}
end

redis.call('HSET', RECORDS, id, kept)
if (ends or follows) and redis.call('HGET', TARGETS, target) == id then redis.call('HDEL', TARGETS, target) end
if follows then redis.call('HSET', FOLLOWED, id, target) end
if ends then
  redis.call('HDEL', FOLLOWED, id)
  redis.call('ZREM', UNDER_WAY, id)
  if never_began then redis.call('ZREM', BEGUN, id) end
  redis.call('ZADD', ENDED, ARGV[12], id)
  redis.call('ZADD', UNPUBLISHED, newest.number + 1, id)
  if held[2] == id then redis.call('DEL', LEASE) end
  local function trim(old)
    for _, each in ipairs(old) do
      if not redis.call('ZSCORE', UNPUBLISHED, each) then
        redis.call('HDEL', RECORDS, each)
        redis.call('ZREM', ENDED, each)
      end
    end
  end
  trim(redis.call('ZRANGEBYSCORE', ENDED, '-inf', string.format('%.0f', wall_ms - keep_ms), 'LIMIT', 0, 100))
  local excess = math.min(redis.call('ZCARD', ENDED) - keep, 100)
  if excess > 0 then trim(redis.call('ZRANGE', ENDED, 0, excess - 1)) end
end
redis.call('RPUSH', AUDIT, ARGV[4])
return {'ok'}
"""
)
"""(chain); id, record, its version; owner, fence; ends; target; wall ms; ended records to keep: how many, ms; whether
it is followed from now on; whether no order of it ever went out."""

PUBLISHED = OPENED + "redis.call('ZREM', UNPUBLISHED, ARGV[2]) return {'ok'}"
"""Action id."""

SWITCH = (
    CHAINED
    + """
local field, value = ARGV[5], ARGV[6]
local new = decode(value)
local text = redis.call('HGET', SWITCHES, field)
if text then
  local stands = decode(text)
  if not stands or type(stands.at_wall_ms) ~= 'number' or type(stands.rank) ~= 'number' then
    return {'junk', SWITCHES, 'field ' .. field .. ' is no switch'}
  end
  -- of two at the same moment the stricter stands
  if stands.at_wall_ms > new.at_wall_ms or (stands.at_wall_ms == new.at_wall_ms and stands.rank >= new.rank) then
    local same = stands.at_wall_ms == new.at_wall_ms and stands.rank == new.rank and stands.why == new.why
    return {same and 'stands' or 'older', string.format('%.0f', stands.at_wall_ms)}
  end
  if stands.lost == true and new.killed == true then value = ARGV[7] end
end
redis.call('HSET', SWITCHES, field, value)
redis.call('RPUSH', AUDIT, ARGV[4])
return {'ok'}
"""
)
"""(chain); field; what is set; the same where a loss stands, which only a resume takes back."""

SWITCHES = OPENED + "return {'ok', unpack(redis.call('HMGET', SWITCHES, ARGV[2], ARGV[3], ARGV[4]))}"
"""Three fields."""

GET = OPENED + "return {'ok', redis.call('HGET', RECORDS, ARGV[2])}"
"""Action id."""

_LIST = (
    OPENED
    + """
local found = {'ok'}
for _, id in ipairs(redis.call('ZRANGE', WHICH, 0, -1)) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', RECORDS, id) or ''
end
return found
"""
)
UNDER_WAY = _LIST.replace("WHICH", "UNDER_WAY")
UNPUBLISHED = _LIST.replace("WHICH", "UNPUBLISHED")

AUDIT = (
    OPENED
    + """
local found = redis.call('LRANGE', AUDIT, ARGV[2], ARGV[3])
table.insert(found, 1, 'ok')
return found
"""
)
"""First and last line, from 0."""

AUDIT_TOLD = (
    OPENED
    + """
local told = tonumber(redis.call('GET', TOLD) or '0')
if not told then return {'junk', TOLD, 'it is no number'} end
return {'ok', string.format('%.0f', math.min(told, newest.number))}
"""
)

TELL_AUDIT = (
    OPENED
    + """
local told = tonumber(redis.call('GET', TOLD) or '0')
if not told then return {'junk', TOLD, 'it is no number'} end
if told < tonumber(ARGV[2]) or told > newest.number then redis.call('SET', TOLD, ARGV[2]) end
return {'ok'}
"""
)
"""The number of the newest line that was published."""
