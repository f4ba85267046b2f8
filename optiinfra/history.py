"""What the store remembers of a case or of a moment, as messages again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

from pydantic import ValidationError

from contracts.catalog.findings import FINDINGS
from contracts.errors import ConfigError
from contracts.events import (
    Candidate,
    CandidateSet,
    Control,
    Decision,
    Finding,
    FleetEvent,
    Message,
    Outcome,
    Review,
    Sli,
    SliValue,
)
from contracts.ports import Scalar, Store
from contracts.topics import BY_NAME
from optiinfra.story import clock_line, fact_line
from rules.core.ruleset import RuleSet
from rules.explain import RuleAccount, RuleState, replay

AROUND_MS = 120_000
"""How far from a moment what was decided still belongs to it, event ms."""

MARGIN_S = 60.0
MOST_ROWS = 100_000
MOST_SETS = 10_000
SECOND_MS = 1000
_STATE_WORDS = {
    RuleState.PROPOSES: "proposed",
    RuleState.FIRES: "fired, though no proposal of it is kept for this moment",
    RuleState.COOLING: "held back, since it had proposed a while before",
    RuleState.NUMBERLESS: "fired, but a number it needs was missing",
    RuleState.QUIET: "did not fire",
}


def messages_of(rows: Sequence[Mapping[str, Scalar]]) -> list[Message]:
    """Records as messages; what another version wrote and this one cannot read is left out."""
    found: list[Message] = []
    for row in rows:
        topic = BY_NAME.get(str(row["type"]))
        if topic is None:
            continue
        try:
            found.append(topic.message.model_validate_json(str(row["body"])))
        except ValidationError:
            continue
    return found


async def case_records(store: Store, ident: str) -> list[Message]:
    """Every record of the case that an id, or its first characters, belongs to; none where there is no such case.

    Raises ConfigError where the characters begin several cases.
    """
    if len(ident) < 6:
        return []
    found = messages_of(await store.query("records_of", case=ident))
    cases = {each.decision_id: each for each in found if isinstance(each, Decision)}
    if len(cases) > 1:
        some = ", ".join(each[:12] for each in list(cases)[:5])
        many = f"{ident!r} begins the ids of {len(cases)} decisions: {some}"
        raise ConfigError(many, where="explain", fix="Give more characters of it.")
    for decision in cases.values():
        # The set and its review are found by the set's id, the decision and all that followed by their own.
        for other in (decision.set_id, decision.decision_id):
            found += messages_of(await store.query("records_of", case=other))
    for decision in [each for each in found if isinstance(each, Decision) and each.action_id]:
        found += messages_of(await store.query("records_of", case=decision.action_id))
        break
    for decision in cases.values():
        found += await _findings_behind(store, decision)
    return [each for each in found if not isinstance(each, CandidateSet | Review) or _is_of(each, cases)]


async def _findings_behind(store: Store, decision: Decision) -> list[Message]:
    """What agents had found, on which the rule of a decision rests."""
    rested_on = {
        fact.end_ms for fact in decision.candidate.facts if fact.bound.sli in FINDINGS and fact.end_ms is not None
    }
    found: list[Message] = []
    for at_ms in sorted(rested_on):
        rows = await store.query(
            "records_between", workload=decision.workload, type=Finding.TYPE, from_ms=at_ms, to_ms=at_ms + 1
        )
        found += messages_of(rows)
    return found


def _is_of(message: CandidateSet | Review, cases: Mapping[str, Decision]) -> bool:
    found = message.candidates if isinstance(message, Review) else message
    return any(decision.set_id == found.id for decision in cases.values())


def parse_time(text: str, now_ms: int) -> int:
    """Event ms of `now`, a time of the day of event time (the last one that has passed), or an ISO time; UTC.

    Raises ConfigError for what is no time, or one that is yet to come.

    >>> parse_time("1970-01-01T00:00:20", 30_000), parse_time("00:00:20", 30_000)
    (20000, 20000)
    """
    if text == "now":
        return now_ms
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    try:
        if "T" in text or "-" in text:
            found = datetime.fromisoformat(text)
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
        else:
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").replace(tzinfo=UTC)
            found = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            if found > now:
                found -= timedelta(days=1)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no time", where="--at", fix="Write 14:03:20, 2026-11-21T14:03:20, or now; UTC."
        ) from error
    at_ms = int(found.timestamp() * 1000)
    if not 0 <= at_ms <= now_ms:
        told = "is yet to come" if at_ms > now_ms else "is before all time that is told here"
        fix = f"Event time is {now:%Y-%m-%dT%H:%M:%S} now; UTC."
        raise ConfigError(f"{text!r} {told}", where="--at", fix=fix)
    return at_ms


@dataclass(frozen=True)
class Moment:
    """A workload at a moment: every rule, and what was decided, done and said around then, oldest first."""

    workload: str
    at_ms: int
    accounts: Sequence[RuleAccount]
    around: Sequence[Message]

    def lines(self) -> Iterator[str]:
        """The moment in sentences."""
        when = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        yield f"{self.workload} at {when} (event time)"
        for account in self.accounts:
            yield f"  {account.rule} (priority {account.priority}) {_STATE_WORDS[account.state]}:"
            for line in account.why:
                yield f"      {line}"
        if not self.around:
            yield f"  Nothing was decided or done within {AROUND_MS // 1000} s of it."
            return
        yield f"  Within {AROUND_MS // 1000} s of it:"
        for message in self.around:
            yield f"      {clock_line(message)}"


async def moment(store: Store, rules: RuleSet, workload: str, at_ms: int, *, speed: float) -> Moment:
    """A workload at event time `at_ms`, its rules told again from the SLIs and findings of the store. People name
    moments by the second: where something was proposed within it, that is the moment.

    What was proposed, and when, is what the store says. The rules are those in force now: where they were others then,
    the account is of what these would have done.
    """
    proposed = await _proposed(store, rules, workload, at_ms)
    at_ms = max([at_ms, *(found.at_ms for found in proposed)])
    last_ms: dict[str, int] = {}
    for found in sorted(proposed, key=lambda each: each.at_ms):
        last_ms |= dict.fromkeys((each.rule for each in found.candidates), found.at_ms)
    from_ms = max(0, at_ms - int((rules.history_s + MARGIN_S) * 1000))
    rows = await store.query("slis_between", workload=workload, from_ms=from_ms, to_ms=at_ms, limit=MOST_ROWS)
    kept = await store.query(
        "records_between", workload=workload, type=Finding.TYPE, from_ms=from_ms, to_ms=at_ms + 1, limit=MOST_ROWS
    )
    findings = [each for each in messages_of(kept) if isinstance(each, Finding)]
    told = replay(
        rules, [*slis_of(workload, rows), *findings], at_ms, max_age_s=max(30.0, 3.0 * speed), proposed_ms=last_ms
    )
    now = {each.rule: each for found in proposed if found.at_ms == at_ms for each in found.candidates}
    accounts = [_as_proposed(each, now[each.rule]) if each.rule in now else each for each in told]
    records = await store.query(
        "records_between", workload=workload, from_ms=max(0, at_ms - AROUND_MS), to_ms=at_ms + AROUND_MS
    )
    kinds = (Decision, Outcome, Control, FleetEvent)
    around = [each for each in messages_of(records) if isinstance(each, kinds)]
    return Moment(workload, at_ms, accounts, sorted(around, key=lambda each: each.at))


async def _proposed(store: Store, rules: RuleSet, workload: str, at_ms: int) -> list[CandidateSet]:
    """What was proposed up to the end of this second, as far back as a cooldown reaches."""
    back_s = max((each.rule.cooldown for each in rules.rules), default=0.0)
    rows = await store.query(
        "records_between",
        workload=workload,
        type=CandidateSet.TYPE,
        from_ms=max(0, at_ms - int(back_s * 1000)),
        to_ms=at_ms + SECOND_MS,
        limit=MOST_SETS,
    )
    return [each for each in messages_of(rows) if isinstance(each, CandidateSet)]


def _as_proposed(account: RuleAccount, candidate: Candidate) -> RuleAccount:
    """The rule as its own proposal tells of it, rather than as it is told again."""
    why = tuple(fact_line(fact) for fact in candidate.facts)
    return replace(account, state=RuleState.PROPOSES, why=why, cooldown_left_s=0.0)


def slis_of(workload: str, rows: Sequence[Mapping[str, Scalar]]) -> list[Sli]:
    """Rows of `slis_between` as messages. The store does not keep what caused a window: its end stands for that."""

    def window(row: Mapping[str, Scalar]) -> tuple[int, int]:
        return _int(row["end_ms"]), _int(row["size_s"])

    found: list[Sli] = []
    for (end_ms, size_s), group in groupby(rows, key=window):
        members = list(group)
        first = members[0]
        found.append(
            Sli(
                workload=workload,
                size_s=size_s,
                start_ms=_int(first["start_ms"]),
                coverage_ratio=_float(first["coverage_ratio"]),
                freshness_s=_float(first["freshness_s"]),
                cause_ms=end_ms,
                instances=_int(first["instances"]),
                instances_up=_int(first["instances_up"]),
                stalled=bool(first["stalled"]),
                values={
                    str(row["name"]): SliValue(
                        value=None if row["value"] is None else _float(row["value"]), samples=_int(row["samples"])
                    )
                    for row in members
                    if row["name"] != "coverage_ratio"
                },
            )
        )
    return found


def _int(value: Scalar) -> int:
    return int(value or 0)


def _float(value: Scalar) -> float:
    return float(value or 0.0)
