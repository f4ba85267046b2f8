"""The questions that the store answers, by name: callers bring values, never SQL.

Values travel beside the statement and are bound by the engine (`{name:Type}`), so no value can become part of it.
Repeats are gone (FINAL) and of several revisions of one window the newest counts. Times are int event ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from contracts.errors import ConfigError
from contracts.ports import Scalar
from streams.store.schema import LAST_MS

WINDOW_SIZES_S = (10, 60, 300)
MAX_ROWS = 100_000


@dataclass(frozen=True)
class Param:
    """One parameter, text or a whole number in `low..high`; required where `default` is None."""

    name: str
    kind: type[str] | type[int]
    doc: str
    default: str | int | None = None
    low: int = 0
    high: int = LAST_MS

    def read(self, query: str, value: Scalar) -> str | int:
        """The value in its own type; from text too, as a URL carries it. Raises ConfigError."""
        where = f"{query}.{self.name}"
        if self.kind is str:
            if isinstance(value, str):
                return value
            raise ConfigError(f"{value!r} is not text", where=where, fix=self.doc)
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if type(number) is not int or not self.low <= number <= self.high:
            raise ConfigError(
                f"{value!r:.60} is not a whole number in {self.low}..{self.high}", where=where, fix=self.doc
            )
        return number


@dataclass(frozen=True)
class Query:
    """One named query: what it answers, its parameters, and the columns of its rows in order."""

    name: str
    doc: str
    params: tuple[Param, ...]
    columns: tuple[str, ...]
    sql: str


_WORKLOAD = Param("workload", str, "Name of the workload.")
_ANY_WORKLOAD = Param("workload", str, "Name of the workload; empty for all.", "")
_INSTANCE = Param("instance", str, "Id of the instance; empty for the workload as a whole.", "")
_SIZE = Param(
    "size_s", int, f"Size of the window: one of {WINDOW_SIZES_S}, or 0 for latest values.", 10, high=2**32 - 1
)
_FROM = Param("from_ms", int, "First event ms.", 0)
_TO = Param("to_ms", int, "Event ms to stop before.", LAST_MS)
_SINCE = Param("since_ms", int, "Only windows that start at or after this event ms: bounds what is read.", 0)
_LIMIT = Param("limit", int, f"Most rows to return, 1..{MAX_ROWS}.", 1000, low=1, high=MAX_ROWS)

_SLI_COLUMNS = (
    *("value", "samples", "good", "total", "coverage_ratio", "freshness_s"),
    *("instances", "instances_up", "stalled"),
)

_RECORD_COLUMNS = ("type", "workload", "at_ms", "id", "case_id", "ref_id", "body")

_ALL = (
    Query(
        "slis_latest",
        "The newest window of every workload and instance, all its SLIs; instance is empty for the workload itself.",
        (_ANY_WORKLOAD, _SIZE, _SINCE),
        ("workload", "instance", "name", *_SLI_COLUMNS, "start_ms", "end_ms", "revision"),
        """
SELECT workload, instance, name, value, samples, good, total, coverage_ratio, freshness_s,
  instances, instances_up, stalled,
  toUnixTimestamp64Milli(start_at) AS start_ms, toUnixTimestamp64Milli(end_at) AS end_ms, revision
FROM slis FINAL
WHERE size_s = {size_s:UInt32} AND ({workload:String} = '' OR workload = {workload:String})
  AND start_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
  AND (workload, instance, start_at, revision) IN (
    SELECT workload, instance, top.1, top.2 FROM (
      SELECT workload, instance, max((start_at, revision)) AS top FROM slis
      WHERE size_s = {size_s:UInt32} AND ({workload:String} = '' OR workload = {workload:String})
        AND start_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
      GROUP BY workload, instance))
ORDER BY workload, instance, name""",
    ),
    Query(
        "sli_series",
        "One SLI of one subject over time, the newest revision of each window, oldest first.",
        (_WORKLOAD, Param("sli", str, "Name of the SLI."), _INSTANCE, _SIZE, _FROM, _TO, _LIMIT),
        ("start_ms", "end_ms", "revision", *_SLI_COLUMNS),
        """
SELECT toUnixTimestamp64Milli(start_at) AS start_ms, toUnixTimestamp64Milli(end_at) AS end_ms, revision,
  value, samples, good, total, coverage_ratio, freshness_s, instances, instances_up, stalled
FROM slis FINAL
WHERE workload = {workload:String} AND instance = {instance:String} AND size_s = {size_s:UInt32}
  AND name = {sli:String}
  AND start_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND start_at < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
ORDER BY start_at, revision DESC LIMIT 1 BY start_at LIMIT {limit:UInt64}""",
    ),
    Query(
        "arrival_rates",
        "Requests a second of a workload, the newest revision of each window, oldest first: those that arrived, or "
        "were finished where arrivals were not counted.",
        (
            _WORKLOAD,
            _SIZE,
            _FROM,
            _TO,
            Param("limit", int, f"Most rows, 1..{MAX_ROWS}.", MAX_ROWS, low=1, high=MAX_ROWS),
        ),
        ("start_ms", "value", "coverage_ratio", "sli"),
        """
SELECT toUnixTimestamp64Milli(start_at) AS start_ms, value, coverage_ratio, name AS sli
FROM slis FINAL
WHERE workload = {workload:String} AND instance = '' AND size_s = {size_s:UInt32}
  AND name IN ('arrivals_per_s', 'requests_per_s')
  AND start_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND start_at < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
ORDER BY start_at, name, revision DESC LIMIT 1 BY start_at LIMIT {limit:UInt64}""",
    ),
    Query(
        "sli_gaps",
        "Spans of whole windows between from_ms and to_ms of which the store holds nothing; windows says how many.",
        (
            _WORKLOAD,
            _INSTANCE,
            Param("size_s", int, f"Size of the window: one of {WINDOW_SIZES_S}.", 10, low=1, high=2**32 - 1),
            Param("from_ms", int, "First event ms."),
            Param("to_ms", int, "Event ms to stop before."),
        ),
        ("from_ms", "to_ms", "windows"),
        # The starts of all windows that are there, between the window before the span and the end of the span: where
        # two neighbours lie more than one step apart, what is between them is missing.
        """
WITH toInt64({size_s:UInt32}) * 1000 AS step,
  intDiv({from_ms:Int64} + step - 1, step) * step - step AS before_ms,
  intDiv({to_ms:Int64}, step) * step AS until_ms,
  (SELECT groupUniqArray(toUnixTimestamp64Milli(start_at)) FROM slis
   WHERE workload = {workload:String} AND instance = {instance:String} AND size_s = {size_s:UInt32}
     AND start_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
     AND end_at <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')) AS found,
  arraySort(arrayConcat([before_ms], found, [until_ms])) AS starts
SELECT gap.1 AS from_ms, gap.2 AS to_ms, intDiv(gap.2 - gap.1, step) AS windows
FROM (SELECT arrayJoin(arrayMap((a, b) -> (a + step, b), arrayPopBack(starts), arrayPopFront(starts))) AS gap)
WHERE gap.2 > gap.1 ORDER BY from_ms""",
    ),
    Query(
        "workloads",
        "Workloads that the store knows, how many instances they have had, and the span of their windows.",
        (_SINCE,),
        ("workload", "instances", "first_ms", "last_ms"),
        """
SELECT workload, uniqExactIf(instance, instance != '') AS instances,
  toUnixTimestamp64Milli(min(start_at)) AS first_ms, toUnixTimestamp64Milli(max(end_at)) AS last_ms
FROM slis WHERE start_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
GROUP BY workload ORDER BY workload""",
    ),
    Query(
        "alerts_recent",
        "The newest alerts, newest first.",
        (_ANY_WORKLOAD, _SINCE, _LIMIT),
        ("at_ms", "workload", "name", "severity", "subject", "summary", "fix", "id"),
        """
SELECT toUnixTimestamp64Milli(at) AS at_ms, workload, name, severity, subject, summary, fix, id
FROM alerts FINAL
WHERE ({workload:String} = '' OR workload = {workload:String})
  AND at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
ORDER BY at DESC, id LIMIT {limit:UInt64}""",
    ),
    Query(
        "deadletters_recent",
        "The newest dead letters, newest first, with the head of their bytes.",
        (Param("source", str, "Who refused it; empty for all.", ""), _SINCE, _LIMIT),
        (
            *("at_ms", "source", "topic", "partition", "offset", "reason", "detail"),
            *("message_key", "raw_base64", "raw_bytes", "id"),
        ),
        """
SELECT toUnixTimestamp64Milli(at) AS at_ms, source, topic, partition, offset, reason, detail,
  message_key, raw_base64, raw_bytes, id
FROM deadletters FINAL
WHERE ({source:String} = '' OR source = {source:String})
  AND at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
ORDER BY at DESC, id LIMIT {limit:UInt64}""",
    ),
    Query(
        "slis_between",
        "All SLIs of a workload as a whole whose windows end between from_ms and to_ms, first revisions, oldest first.",
        (_WORKLOAD, _FROM, _TO, _LIMIT),
        ("size_s", "name", *_SLI_COLUMNS, "start_ms", "end_ms", "revision"),
        """
SELECT size_s, name, value, samples, good, total, coverage_ratio, freshness_s, instances, instances_up, stalled,
  toUnixTimestamp64Milli(start_at) AS start_ms, toUnixTimestamp64Milli(end_at) AS end_ms, revision
FROM slis FINAL
WHERE workload = {workload:String} AND instance = '' AND revision = 0
  AND end_at > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND end_at <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
ORDER BY end_at, size_s, name LIMIT {limit:UInt64}""",
    ),
    Query(
        "records_of",
        "Every record of a case, by the id of its decision, action, set or subject, or the first characters of it.",
        (Param("case", str, "Id of a decision, action or candidate set; six characters or more."), _LIMIT),
        _RECORD_COLUMNS,
        """
SELECT type, workload, toUnixTimestamp64Milli(at) AS at_ms, id, case_id, ref_id, body
FROM records FINAL
WHERE length({case:String}) >= 6 AND (startsWith(case_id, {case:String}) OR startsWith(ref_id, {case:String}))
ORDER BY at, type, id LIMIT {limit:UInt64}""",
    ),
    Query(
        "records_between",
        "Records of a workload (empty for all) between from_ms and to_ms, of one type or of all, newest first.",
        (_ANY_WORKLOAD, Param("type", str, "CloudEvents type; empty for all.", ""), _FROM, _TO, _LIMIT),
        _RECORD_COLUMNS,
        """
SELECT type, workload, toUnixTimestamp64Milli(at) AS at_ms, id, case_id, ref_id, body
FROM records FINAL
WHERE ({workload:String} = '' OR workload = {workload:String}) AND ({type:String} = '' OR type = {type:String})
  AND at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
ORDER BY at DESC, type, id LIMIT {limit:UInt64}""",
    ),
    Query(
        "sizes",
        "Rows and bytes on disk of every table as they lie there: at no cost, repeats that are not yet merged counted.",
        (),
        ("table", "rows", "bytes"),
        """
SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts
WHERE database = currentDatabase() AND active AND table IN ('slis', 'alerts', 'deadletters', 'records')
GROUP BY table ORDER BY table""",
    ),
    Query(
        "counts",
        "Rows of every table, repeats not counted: reads the keys of every row.",
        (),
        ("table", "rows"),
        """
SELECT table, rows FROM (
  SELECT 'slis' AS table, count() AS rows FROM slis FINAL
  UNION ALL SELECT 'alerts', count() FROM alerts FINAL
  UNION ALL SELECT 'deadletters', count() FROM deadletters FINAL
  UNION ALL SELECT 'records', count() FROM records FINAL)
ORDER BY table""",
    ),
)

QUERIES: dict[str, Query] = {query.name: query for query in _ALL}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The edit that mends a misspelt name."""
    names = sorted(known)
    close = get_close_matches(name, names, 1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names) or 'none'}."


def resolve(name: str, given: Mapping[str, Scalar]) -> tuple[Query, dict[str, str | int]]:
    """The query and all its parameters in their own types, defaults filled in; None counts as not given.

    Raises ConfigError for a query or parameter that does not exist, is missing, or has a value out of range.
    """
    query = QUERIES.get(name)
    if query is None:
        raise ConfigError(f"unknown query {name!r}", fix=did_you_mean(name, QUERIES))
    params = {param.name: param for param in query.params}
    for key in given:
        if key not in params:
            raise ConfigError(f"unknown parameter {key!r}", where=name, fix=did_you_mean(key, params))
    bound: dict[str, str | int] = {}
    for key, param in params.items():
        value = given.get(key)
        if value is None:
            value = param.default
        if value is None:
            raise ConfigError(f"parameter {key!r} is required", where=name, fix=param.doc)
        bound[key] = param.read(name, value)
    return query, bound
