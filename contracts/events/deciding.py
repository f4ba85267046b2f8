"""What rules propose, reviewers judge and the arbiter decides."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.events.answers import Answer, Refusal
from contracts.events.base import Message, Name
from contracts.events.kinds import ActionKind, Mode
from contracts.laws.bounds import Bound
from contracts.laws.ids import cause_id


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Effect(_Part):
    """What an action is expected to do. `expect` verifies it, on SLIs and never on its controller's word, within `by_s`
    of the last step. `goal` is what it is done for: waited for until the deadline and recorded. `guards` must hold for
    `settle_s` on fresh evidence before a final step, while all can still be taken back; a broken guard takes it back.
    All times are event seconds."""

    expect: Bound
    by_s: float = Field(gt=0, le=86_400)
    goal: Bound | None = None
    guards: tuple[Bound, ...] = ()
    settle_s: float = Field(default=0.0, ge=0, le=86_400)


SHARES_SUM_TO = 1e-6
"""How far shares of requests may be from one in sum: what floating point leaves of 1000 of them."""


class ActionSpec(_Part):
    """A typed action with its numbers worked out. `undo_guards` must hold on fresh evidence before an undo may take
    capacity away; an undo that gives capacity back needs none. One that `stacks` may begin while earlier scale-ups of
    the target are still starting: its number leaves out what they add.

    A TUNE has `settings`, engine flags by their names in vLLM (`max_num_seqs`), and names the replicas that are to have
    them in `by_replica`, each with 1. One that `restores` gives back settings under which users waited less. A ROUTE
    has the share of requests of every replica in `by_replica`, one in sum. What is done at the gateway has its one
    setting in `settings`, and counts as one of `replicas`; one that `restores` lifts a limit of ours, and no other
    loosens one.
    """

    kind: ActionKind
    replicas: int = Field(ge=1, le=1000, description="how many replicas to add, to take away or to change")
    effect: Effect
    undo_guards: tuple[Bound, ...] = ()
    stacks: bool = False
    restores: bool = False
    settings: dict[Name, float] = Field(default={}, max_length=50)
    by_replica: dict[Name, float] = Field(default={}, max_length=1000)

    @property
    def frees_one(self) -> bool:
        """Whether it takes a bad setting from one replica: that need not wait until the fleet stands still, since what
        hurts under load makes the fleet grow for as long as it stands."""
        return self.restores and self.replicas == 1 and self.kind is ActionKind.TUNE

    @model_validator(mode="after")
    def _what_its_kind_needs(self) -> Self:
        if self.stacks and self.kind is not ActionKind.SCALE_UP:
            raise ValueError(f"a {self.kind} does not stack: only scale-ups begin while others are under way")
        if self.restores and not (self.kind is ActionKind.TUNE or self.kind.gateway_setting):
            raise ValueError(f"a {self.kind} restores no settings: a tune does, and what is done at a gateway")
        if at_gateway := self.kind.gateway_setting:
            if set(self.settings) != {at_gateway} or self.by_replica or self.replicas != 1:
                raise ValueError(f"a {self.kind} sets {at_gateway} at one gateway, and nothing else")
            return self
        if bool(self.settings) != (self.kind is ActionKind.TUNE):
            raise ValueError(f"a tune has engine settings, and a {self.kind} came with {self.settings or 'none'}")
        if self.kind.scales:
            if self.by_replica:
                raise ValueError(f"a {self.kind} names no replicas: its controller chooses them")
            return self
        if len(self.by_replica) != self.replicas:
            raise ValueError(f"{len(self.by_replica)} replicas are named, and `replicas` says {self.replicas}")
        if self.kind is ActionKind.TUNE and set(self.by_replica.values()) != {1.0}:
            raise ValueError("the replicas of a tune are named with 1: whoever is not named is not changed")
        if self.kind is ActionKind.ROUTE and not _are_shares(self.by_replica):
            raise ValueError("the shares of a route are none below zero and one in sum")
        return self


def _are_shares(by_replica: dict[str, float]) -> bool:
    shares = by_replica.values()
    return min(shares) >= 0 and abs(sum(shares) - 1) <= SHARES_SUM_TO


class Fact(_Part):
    """One condition as it stood: its bound, the value that was compared (None: missing) and the window's end."""

    condition: Name
    bound: Bound
    value: float | None
    holds: bool
    held_s: float = Field(default=0.0, ge=0, description="how long it had held, event seconds")
    end_ms: int | None = None


class Candidate(_Part):
    """One rule that fired."""

    rule: Name
    rule_version: int = Field(ge=1)
    pack: Name
    priority: int = Field(ge=0, le=65_535, description="the higher goes first")
    cooldown_s: float = Field(ge=0)
    spec: ActionSpec
    facts: tuple[Fact, ...]
    doc: str = Field(default="", max_length=2000)
    runbook: str = Field(default="", max_length=2000)


class CandidateSet(Message):
    """All rules that fired for one workload at one moment.

    Topic `optiinfra.candidates.v1`, key workload. Written by stage `rules`, read by the reviewer and stage `arbiter`.
    `evidence` holds the SLIs by window size (seconds; 0 the latest value) on which the rules looked; `cause_ms` is the
    event time of the scrape that made the newest of them.
    """

    TYPE: ClassVar[str] = "optiinfra.candidates.v1"

    workload: Name
    at_ms: int
    cause_ms: int
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=100)
    evidence: dict[int, dict[str, float]] = {}
    replicas: int | None = Field(default=None, ge=0, description="replicas that answered, by the newest scrapes")
    coverage_ratio: float = Field(default=0.0, ge=0, le=1)

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        rules = (f"{each.rule}:{each.rule_version}" for each in self.candidates)
        return cause_id("candidates", self.workload, self.at_ms, *rules)

    def candidate_id(self, candidate: Candidate) -> str:
        """The id of one of them: hash(rule, version, workload, moment)."""
        return cause_id("candidate", candidate.rule, candidate.rule_version, self.workload, self.at_ms)


class Verdict(StrEnum):
    """What a reviewer says of a candidate: go; a person shall look; no."""

    APPROVE = "approve"
    DEMOTE = "demote"
    VETO = "veto"


class Risk(StrEnum):
    """How much an action can break."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Judgement(_Part):
    """One candidate as a reviewer sees it. `reasons` are for people and decide nothing."""

    rule: Name
    verdict: Verdict
    confidence: float = Field(ge=0, le=1)
    risk: Risk
    reasons: tuple[str, ...] = Field(default=(), max_length=20)


class Review(Message):
    """A set of candidates, judged.

    Topic `optiinfra.reviews.v1`, key workload. Written by the reviewer, read by stage `arbiter`. A review that failed
    says why in `failure` and judges nothing: no approval. `degraded` says that a fallback judged: it approves nothing.
    """

    TYPE: ClassVar[str] = "optiinfra.reviews.v1"

    candidates: CandidateSet
    reviewer: Name
    judgements: tuple[Judgement, ...] = Field(default=(), max_length=100)
    failure: str = Field(default="", max_length=1000)
    degraded: bool = False
    took_s: float = Field(default=0.0, ge=0, description="wall seconds")
    cost_usd: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        rules = [each.rule for each in self.judgements]
        known = {each.rule for each in self.candidates.candidates}
        if len(set(rules)) != len(rules) or not known.issuperset(rules):
            raise ValueError("a review judges each of its candidates at most once, and no others")
        return self

    @property
    def key(self) -> str:
        return self.candidates.workload

    @property
    def at(self) -> int:
        return self.candidates.at_ms

    @property
    def id(self) -> str:
        return cause_id("review", self.candidates.id, self.reviewer)


class Decision(Message):
    """What became of one candidate, with every reason and the numbers that decided.

    Topic `optiinfra.decisions.v1`, key workload, public. Written by stage `arbiter`, read by console, webhooks, store.
    `decision_id` names the candidate's case; `revision` grows when a person or the time answers it again. An approval
    has an `action_id`; `answers` is the id of the person's message that a revision answers. `actor` is the person who
    made the answer what it is, empty where the platform did.
    """

    TYPE: ClassVar[str] = "optiinfra.decisions.v1"

    workload: Name
    decision_id: Name
    revision: int = Field(default=0, ge=0)
    set_id: Name
    candidate: Candidate
    answer: Answer
    reasons: tuple[Refusal, ...] = ()
    detail: tuple[str, ...] = Field(default=(), max_length=30, description="the numbers, in words, a line a reason")
    replicas: int = Field(default=0, ge=0, description="what is granted, after limits; 0 when nothing is")
    mode: Mode
    judgement: Judgement | None = None
    reviewer: str = ""
    at_ms: int
    cause_ms: int
    expires_wall_ms: int | None = None
    action_id: str = ""
    actor: str = ""
    answers: str = ""

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("decision", self.decision_id, self.revision, self.answers)

    @property
    def code(self) -> str:
        """One word for counts: the answer, or the first reason of a refusal."""
        return self.reasons[0].value if self.answer is Answer.REFUSED and self.reasons else self.answer.value
