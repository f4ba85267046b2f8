"""One good set of candidates of each kind, for reviewers: tests change one thing of it."""

from __future__ import annotations

from typing import Any

from contracts.events import ActionKind, ActionSpec, Candidate, CandidateSet, Effect, Fact
from contracts.laws.bounds import Bound, Comparator

AT_MS = 1_700_000_000_000


def a_bound(sli: str, size_s: int, comparator: Comparator, value: float) -> Bound:
    return Bound(sli=sli, size_s=size_s, comparator=comparator, value=value)


def a_fact(sli: str, size_s: int, comparator: Comparator, limit: float, value: float | None, **change: Any) -> Fact:
    """A fact whose `holds` is what its value says, held for half a minute when it holds."""
    bound = a_bound(sli, size_s, comparator, limit)
    holds = value is not None and comparator.compare(value, limit)
    fields = {"condition": sli, "bound": bound, "value": value, "holds": holds, "held_s": 30.0 if holds else 0.0}
    return Fact(**{**fields, "end_ms": AT_MS, **change})


def scale_up(**change: Any) -> Candidate:
    """Adds one replica since the budget burns at four times the bound."""
    fields: dict[str, Any] = {
        "rule": "scale-up-on-burn",
        "rule_version": 1,
        "pack": "performance",
        "priority": 900,
        "cooldown_s": 60.0,
        "spec": a_spec(ActionKind.SCALE_UP, 1),
        "facts": (a_fact("ttft_burn_rate", 60, Comparator.GT, 2.0, 8.0),),
        "doc": "Adds capacity while the error budget burns.",
    }
    return Candidate(**{**fields, **change})


def scale_down(**change: Any) -> Candidate:
    """Takes one replica away: load is low, nothing burns."""
    fields: dict[str, Any] = {
        "rule": "scale-down-on-slack",
        "rule_version": 1,
        "pack": "performance",
        "priority": 100,
        "cooldown_s": 120.0,
        "spec": a_spec(ActionKind.SCALE_DOWN, 1),
        "facts": (
            a_fact("load_per_replica", 60, Comparator.LT, 6.0, 1.5),
            a_fact("ttft_burn_rate", 60, Comparator.GT, 1.0, 0.1, condition="burning"),
        ),
    }
    return Candidate(**{**fields, **change})


def a_spec(kind: ActionKind, replicas: int) -> ActionSpec:
    expect = a_bound("replicas_up", 0, Comparator.GE if kind is ActionKind.SCALE_UP else Comparator.LE, 5.0)
    return ActionSpec(kind=kind, replicas=replicas, effect=Effect(expect=expect, by_s=120.0))


def a_set(*candidates: Candidate, **change: Any) -> CandidateSet:
    """Five replicas, all evidence there."""
    fields: dict[str, Any] = {
        "workload": "chat",
        "at_ms": AT_MS,
        "cause_ms": AT_MS - 500,
        "candidates": candidates,
        "evidence": {0: {"load_per_replica": 3.0, "replicas_up": 5.0}},
        "replicas": 5,
        "coverage_ratio": 1.0,
    }
    return CandidateSet(**{**fields, **change})
