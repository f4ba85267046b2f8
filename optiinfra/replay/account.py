"""What a replay of the whole policy did and what that cost, from the truth of the simulated fleet and the messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from contracts.events import (
    Action,
    ActionKind,
    Alert,
    CandidateSet,
    DeadLetter,
    Decision,
    EndState,
    Fact,
    Message,
    Outcome,
    Sli,
    Tick,
)
from optiinfra.replay.bill import Cost, Saving, Static
from optiinfra.replay.blind import Blind
from optiinfra.replay.cloud import Notice
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene
from optiinfra.story import fact_line

REMEMBERED = 200
"""Candidates whose numbers are kept until an action is made of one: far more than are under review at a time."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Deed(_Part):
    """One action: seconds of the trace; `began_s` is None where nothing was done, the end where it never ended.
    `because`: each condition of its rule with the number that was compared. `needed` in hindsight (`hindsight.py`):
    None where nothing was done or the trace ends too soon to tell."""

    action_id: str
    rule: str
    kind: str
    replicas: int
    decided_s: float
    began_s: float | None = None
    ended_s: float | None = None
    end_state: str = "under_way"
    reasons: tuple[str, ...] = ()
    expect_met: bool | None = None
    goal_met: bool | None = None
    because: tuple[str, ...] = ()
    needed: bool | None = None


class Heeded(_Part):
    """A spot loss that was announced, and who did something: `replaced`, replicas ordered at once by the operator's
    spot strategy; `platform_before` and `platform_after`, replicas ordered (given up below 0) by the platform's own
    rules from the notice to the loss, and from the loss until a start-up later."""

    at_s: int
    loss_s: int
    zone: str
    doomed: int
    replaced: int
    platform_before: int
    platform_after: int


class Moment(_Part):
    """A point of the timeline. `arrived_rps` and `late_ratio` are means since the point before; `billed` replicas are
    those that serve, start or drain."""

    at_s: int
    arrived_rps: float
    serving: int
    billed: int
    spot: int
    waiting: float
    late_ratio: float


class PipelineResult(_Part):
    """All of it, without a word of how long it took: two replays of the same are equal byte by byte.

    `decisions` are counted by code, `actions` by end state. Undone and held ones are what the policy should not have
    done; `false_positives` were undone or not needed in hindsight, `false_positive_ratio` of all that did something.
    `reviews`, where answers are played back: sets of candidates by who judged them (`reviews.py`). `savings` against
    static p99, by part, add up to `whole` (`bill.py`). `resting` names rules that can never fire, with why. `handled`
    counts messages by topic.
    """

    workload: str
    reviewer: str
    reviews: dict[str, int]
    scored_from_s: int
    end_s: int
    cost: Cost
    static_p99: Static
    decisions: dict[str, int]
    actions: dict[str, int]
    actions_by_rule: dict[str, dict[str, int]]
    undone: int
    held: int
    goals_missed: int
    false_positives: int
    false_positive_ratio: float
    savings: dict[str, Saving]
    fired: dict[str, int]
    alerts: dict[str, int]
    dead_letters: int
    turns_per_day: float
    spot_strategy: str
    spot_losses: tuple[tuple[int, int], ...]
    notices: tuple[Heeded, ...]
    outages: tuple[Blind, ...]
    resting: dict[str, str]
    deeds: tuple[Deed, ...]
    timeline: tuple[Moment, ...]
    handled: dict[str, int]
    prices: str
    kv_tier: str

    def to_json(self) -> str:
        """As one JSON object, indented, keys in the order of the fields."""
        return self.model_dump_json(indent=1) + "\n"


@dataclass
class Ear:
    """Hears every message that is handled, and keeps what the account needs; each id counts once."""

    begin_ms: int
    decisions: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    deeds: dict[str, Deed] = field(default_factory=dict)
    _facts: dict[str, tuple[Fact, ...]] = field(default_factory=dict)

    def hear(self, message: Message) -> None:
        """Take note of one message."""
        if isinstance(message, (Sli, Tick)):  # nearly all of them; a union would be made anew for each
            return
        match message:
            case CandidateSet():
                self.fired.update(each.rule for each in message.candidates)
                self._facts |= {message.candidate_id(each): each.facts for each in message.candidates}
                while len(self._facts) > REMEMBERED:
                    del self._facts[next(iter(self._facts))]
            case Decision():
                self.decisions[message.code] += 1
            case Action():
                self._begin(message)
            case Outcome():
                self._end(message)
            case Alert():
                self.alerts[message.name] += 1
            case DeadLetter():
                self.dead_letters += 1
            case _:
                pass

    def _begin(self, action: Action) -> None:
        if action.id not in self.deeds:
            self.deeds[action.id] = Deed(
                action_id=action.id,
                rule=action.rule,
                kind=action.spec.kind.value,
                replicas=action.spec.replicas,
                decided_s=self._s(action.at_ms),
                because=tuple(map(fact_line, self._facts.get(action.candidate_id, ()))),
            )

    def _end(self, outcome: Outcome) -> None:
        told = {
            "began_s": None if outcome.began_ms is None else self._s(outcome.began_ms),
            "ended_s": self._s(outcome.at_ms),
            "end_state": outcome.end_state.value,
            "reasons": outcome.reasons,
            "expect_met": outcome.expect_met,
            "goal_met": outcome.goal_met,
        }
        self.deeds[outcome.action.id] = self.deeds[outcome.action.id].model_copy(update=told)

    def _s(self, at_ms: int) -> float:
        return (at_ms - self.begin_ms) / 1000.0


def _scaled(deeds: Iterable[Deed]) -> list[Deed]:
    """Those that changed how many replicas there are."""
    return [deed for deed in deeds if deed.began_s is not None and ActionKind(deed.kind).scales]


def turns_per_day(deeds: list[Deed], begin_s: int, end_s: int) -> float:
    """How often a day the policy turned from adding to taking away or back, of what was done in the scored span."""
    kinds = [deed.kind for deed in _scaled(deeds) if begin_s <= deed.decided_s < end_s]
    turns = sum(was != now for was, now in pairwise(kinds))
    return turns * 86_400 / (end_s - begin_s) if end_s > begin_s else 0.0


def heeded(notices: list[Notice], deeds: Iterable[Deed], startup_s: int) -> tuple[Heeded, ...]:
    """Each announced loss with what the platform itself ordered about that time."""
    orders = [
        (deed.began_s, deed.replicas if deed.kind == ActionKind.SCALE_UP else -deed.replicas)
        for deed in _scaled(deeds)
        if deed.began_s is not None
    ]

    def ordered(begin_s: int, end_s: int) -> int:
        return sum(many for at_s, many in orders if begin_s <= at_s < end_s)

    return tuple(
        Heeded(
            at_s=each.at_s,
            loss_s=each.loss_s,
            zone=each.zone,
            doomed=each.doomed,
            replaced=each.replaced,
            platform_before=ordered(each.at_s, each.loss_s),
            platform_after=ordered(each.loss_s, each.loss_s + startup_s + 1),
        )
        for each in notices
    )


class Timeline:
    """Points every `every_s` seconds, taken while the scene goes on."""

    def __init__(self, scene: Scene, every_s: int) -> None:
        self._scene, self._every_s = scene, every_s
        self._last_s = self._judged_s = 0
        self.points: list[Moment] = []

    def note(self) -> None:
        """Take a point if one is due."""
        scene, now_s = self._scene, self._scene.now_s
        if now_s - self._last_s < self._every_s:
            return
        span_s = now_s - self._last_s
        came = scene.total[now_s] - scene.total[self._last_s]
        # Who came in the last seconds may yet be in time: they are judged at the next point.
        judged_s = max(self._judged_s, now_s - scene.options.late_after_s + 1)
        judged = scene.total[judged_s] - scene.total[self._judged_s]
        late = scene.late(self._judged_s, judged_s)
        self.points.append(
            Moment(
                at_s=now_s,
                arrived_rps=came / span_s,
                serving=len(scene.names(Phase.SERVING)),
                billed=len(scene.present),
                spot=sum(each.spot for each in scene.present),
                waiting=scene.waiting,
                late_ratio=late / judged if judged else 0.0,
            )
        )
        self._last_s, self._judged_s = now_s, judged_s


def ended(deeds: list[Deed], state: EndState) -> int:
    """How many actions ended so."""
    return sum(deed.end_state == state.value for deed in deeds)
