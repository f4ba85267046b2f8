"""What rules that fire propose: candidates with their numbers, facts and evidence, unless they cool down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from contracts.events import Alert, Candidate, CandidateSet, Message, Severity
from contracts.laws.bounds import cooling
from rules.core.amounts import Lacking, spec
from rules.core.conditions import Evidence, Seen, Standing, fact, still_fresh
from rules.core.ruleset import REPLICAS, ReadyRule, RuleSet
from rules.core.shapes import Facts

MOST = 100
"""Candidates in one set; those of lower priority come with the next, since rules fire for as long as they hold."""


@dataclass(frozen=True)
class Moment:
    """One look at a workload: event time, evidence by window size, conditions that are on, and all of them as facts."""

    at_ms: int
    evidence: Mapping[int, Seen]
    standings: Mapping[str, Standing]
    facts: Facts


class Fired(BaseModel):
    """When each rule last proposed, and when it last fired without its numbers and people were told; event ms."""

    model_config = ConfigDict(frozen=True)

    proposed_ms: dict[str, int] = {}
    numberless_ms: dict[str, int] = {}


def propose(
    ruleset: RuleSet, max_age_s: float, workload: str, fired: Fired, moment: Moment, names: tuple[str, ...]
) -> tuple[Fired, list[Message]]:
    """The set of candidates of one moment, from the names of the rules that fire, highest priority first.

    A rule whose numbers are missing proposes nothing and people are told, as often as it could have proposed.
    """
    at_ms, by_name, proposed = moment.at_ms, ruleset.by_name, dict(fired.proposed_ms)
    rules = [by_name[name] for name in names]
    awake = [rule for rule in rules if not cooling(proposed.get(rule.name), rule.rule.cooldown, at_ms)]
    if not awake:
        return fired, []
    evidence, numberless = still_fresh(moment.evidence, at_ms, max_age_s), dict(fired.numberless_ms)
    candidates: list[Candidate] = []
    outputs: list[Message] = []
    for rule in awake:
        if len(candidates) == MOST:
            break
        try:
            candidates.append(candidate_of(ruleset, rule, moment, evidence, max_age_s))
            proposed[rule.name] = at_ms
        except Lacking as lacking:
            if not cooling(numberless.get(rule.name), rule.rule.cooldown, at_ms):
                numberless[rule.name] = at_ms
                outputs.append(_numberless(workload, rule, at_ms, str(lacking)))
    if candidates:
        outputs.append(_set_of(workload, at_ms, candidates, evidence))
    if proposed == fired.proposed_ms and numberless == fired.numberless_ms:
        return fired, outputs
    return Fired(proposed_ms=_known(proposed, by_name), numberless_ms=_known(numberless, by_name)), outputs


def _known(last_ms: dict[str, int], rules: Mapping[str, ReadyRule]) -> dict[str, int]:
    return {name: at_ms for name, at_ms in last_ms.items() if name in rules}


def candidate_of(ruleset: RuleSet, rule: ReadyRule, moment: Moment, evidence: Evidence, max_age_s: float) -> Candidate:
    """One rule's proposal; `evidence` is the fresh part of the moment's. Raises Lacking."""
    conditions = ruleset.by_key
    return Candidate(
        rule=rule.name,
        rule_version=rule.rule.version,
        pack=rule.pack,
        priority=rule.rule.priority,
        cooldown_s=rule.rule.cooldown,
        spec=spec(rule.rule, evidence),
        facts=tuple(
            fact(
                conditions[key],
                moment.standings.get(conditions[key].memory, Standing()),
                moment.evidence,
                moment.at_ms,
                max_age_s,
            )
            for key in rule.conditions
        ),
        doc=rule.rule.doc,
        runbook=rule.rule.runbook,
    )


def _set_of(workload: str, at_ms: int, candidates: list[Candidate], evidence: Evidence) -> CandidateSet:
    latest = evidence.get(0)
    replicas = None if latest is None else latest.value(REPLICAS)
    return CandidateSet(
        workload=workload,
        at_ms=at_ms,
        # Where all evidence is too old (a rule may fire on silence) the moment is its own cause.
        cause_ms=max((each.cause_ms for each in evidence.values()), default=at_ms),
        candidates=tuple(candidates),
        evidence={size_s: dict(each.values) for size_s, each in evidence.items()},
        replicas=None if replicas is None else int(replicas),
        coverage_ratio=min((r for each in evidence.values() if (r := each.coverage_ratio) is not None), default=0.0),
    )


def _numberless(workload: str, rule: ReadyRule, at_ms: int, why: str) -> Alert:
    return Alert(
        workload=workload,
        name="rule_without_number",
        severity=Severity.WARNING,
        subject=rule.name,
        at_ms=at_ms,
        summary=f"rule {rule.name} fires and proposes nothing: {why}",
        fix="See that the SLI or finding is told (optiinfra explain), or give the rule a plain number of replicas.",
    )
