"""The keys of the ledger in Redis, and the lines with which its scripts begin: types, epoch, place in the audit log."""

from __future__ import annotations

from typing import Final

KEYS: Final = {
    "epoch": "hash",
    "fence": "string",
    "records": "hash",
    "under_way": "zset",
    "ended": "zset",
    "unpublished": "zset",
    "targets": "hash",
    "followed": "hash",
    "begun": "zset",
    "switches": "hash",
    "audit": "list",
    "told": "string",
    "lease": "hash",
}
"""Keys of the ledger and their types; the last is a target's own, and only some scripts are given it.

    epoch        which ledger this is: id, whether it was begun after a loss, whether that loss is reconciled
    fence        the newest fence
    records      action id → record, with who wrote it
    under_way    ids of records that have not ended, by audit number
    ended        ids of those that have, by wall time: for trimming
    unpublished  ids of ended ones whose outcome is not published, by audit number
    targets      target → the action that was let in and has orders to give
    followed     ids of actions that gave up their target and have not ended → that target
    begun        ids of actions that were let in, by wall time: for the hourly limit; not those that ended unbegun
    switches     fleet, kill:<workload>, mode:<workload> → what a person has set
    audit        the lines, in order
    told         the number of the newest line that was published
    lease        owner, action, fence of a target; gone when it lapses
"""

_TYPES = ", ".join(f"'{kind}'" for kind in KEYS.values())

BEGIN = f"""
local {", ".join(name.upper() for name in KEYS)} = unpack(KEYS)
local types = {{{_TYPES}}}
for i, key in ipairs(KEYS) do
  local has = redis.call('TYPE', key).ok
  if has ~= 'none' and has ~= types[i] then return {{'junk', key, 'it is a ' .. has .. ', not a ' .. types[i]}} end
end

local function decode(text)
  local ok, value = pcall(cjson.decode, text)
  return ok and type(value) == 'table' and value or nil
end

local newest = {{number = redis.call('LLEN', AUDIT), hash = ''}}
if newest.number > 0 then
  local line = decode(redis.call('LINDEX', AUDIT, -1))
  if not line or type(line.hash) ~= 'string' then return {{'junk', AUDIT, 'its last line is no audit line'}} end
  newest.hash = line.hash
end
"""
"""What all scripts begin with."""

OPENED = (
    BEGIN
    + """
local epoch = redis.call('HGET', EPOCH, 'id')
if not epoch or ARGV[1] ~= '' and epoch ~= ARGV[1] or redis.call('EXISTS', FENCE) == 0 then return {'lost'} end
"""
)
"""ARGV[1]: the epoch that the caller has opened; empty for a visitor, who takes the ledger that there is."""

UNMOVED = """
if newest.number ~= tonumber(ARGV[2]) or newest.hash ~= ARGV[3] then
  return {'moved', tostring(newest.number), newest.hash}
end
"""

CHAINED = OPENED + UNMOVED
"""ARGV[2], [3]: number and hash of the line that the new one, ARGV[4], was chained to."""
