"""What each policy can reach: every operating point of its knobs, and the cheapest that keeps an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from optiinfra.replay.course import Race
from optiinfra.replay.policy import DAY_S, Knobs, Policy, amount

GOALS = (0.99, 0.999)
AT_COST = 1.2
_BEST, _HALVINGS = 2, 3


@dataclass(frozen=True)
class Point:
    """One policy with one setting of its knobs at one start-up.

    `cost_vs_oracle`: replica-seconds billed over the oracle's. `attainment`: share of requests in time.
    `removed_blind`: replicas given up while nothing was measured; `attainment_in_outage` and
    `attainment_hour_after` of the requests that came then and in the hour after it, None without outage. `measures`:
    what else is known, by name.
    """

    policy: str
    startup_s: float
    knobs: Knobs
    cost_vs_oracle: float
    attainment: float
    direction_changes_per_day: float
    removed_blind: int
    attainment_in_outage: float | None = None
    attainment_hour_after: float | None = None
    measures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """The frontier of a policy at one start-up in four numbers; None where it does not get there.

    `cheapest`: the point of least cost for each of GOALS. `at_cost`: attainment at AT_COST, on straight lines between
    the points that no other point beats.
    """

    policy: str
    startup_s: float
    cheapest: tuple[Point | None, ...]
    at_cost: float | None


def runs(policy: Policy) -> int:
    """How many runs `points` makes at the most."""
    return len(policy.grid) + (_BEST * _HALVINGS * len(GOALS) if policy.main else 0)


def points(race: Race, policy: Policy, startup_s: float, told: Callable[[], object] = lambda: None) -> list[Point]:
    """The grid of a policy, and between its points those that meet an objective more narrowly. `told` after each run.

    For each objective the two cheapest settings of the other knobs are taken, and the main knob halved three times
    between its last value that fails and its first that meets it: all policies are tuned with the same effort.
    """
    budget = race.plan(startup_s).billed_s

    def run(knobs: Knobs) -> Point:
        outcome = race.run(policy, knobs, startup_s)
        scored = race.scored
        told()
        return Point(
            policy.name,
            startup_s,
            knobs,
            outcome.billed_s / budget,
            outcome.attainment_ratio,
            outcome.turns * DAY_S / (scored.end_s - scored.begin_s),
            outcome.removed_blind,
            *race.in_outage(outcome),
            outcome.measures,
        )

    found = [run(knobs) for knobs in policy.grid]
    if policy.main:
        for goal in GOALS:
            for failing, meeting in _crossings(found, policy.main, goal)[:_BEST]:
                for _ in range(_HALVINGS):
                    middle = (amount(failing.knobs, policy.main) + amount(meeting.knobs, policy.main)) / 2
                    between = run({**meeting.knobs, policy.main: round(middle, 4)})
                    found.append(between)
                    failing, meeting = (failing, between) if between.attainment >= goal else (between, meeting)
    return found


def reached(found: Sequence[Point]) -> Reached:
    """The frontier of points of one policy at one start-up."""
    cheapest = tuple(
        min((each for each in found if each.attainment >= goal), key=_rank, default=None) for goal in GOALS
    )
    return Reached(found[0].policy, found[0].startup_s, cheapest, _at_cost(found))


def _rank(point: Point) -> tuple[float, float]:
    return point.cost_vs_oracle, -point.attainment


def _crossings(found: Iterable[Point], main: str, goal: float) -> list[tuple[Point, Point]]:
    """Neighbours on the main knob of which one fails and the other meets the goal, the cheapest first."""
    lines: dict[str, list[Point]] = {}
    for point in found:
        rest = repr(sorted((name, value) for name, value in point.knobs.items() if name != main))
        lines.setdefault(rest, []).append(point)
    best: list[tuple[Point, Point]] = []
    for line in lines.values():
        line.sort(key=lambda point: amount(point.knobs, main))
        pairs = [
            (a, b) if b.attainment >= goal else (b, a)
            for a, b in pairwise(line)
            if (a.attainment >= goal) != (b.attainment >= goal)
        ]
        if pairs:
            best.append(min(pairs, key=lambda pair: _rank(pair[1])))
    return sorted(best, key=lambda pair: _rank(pair[1]))


def edge(found: Iterable[Point]) -> list[Point]:
    """The points that no other of these beats, the cheapest first."""
    kept: list[Point] = []
    for point in sorted(found, key=_rank):
        if not kept or point.attainment > kept[-1].attainment:
            kept.append(point)
    return kept


def _at_cost(found: Sequence[Point]) -> float | None:
    best = edge(found)
    below = [point for point in best if point.cost_vs_oracle <= AT_COST]
    above = [point for point in best if point.cost_vs_oracle > AT_COST]
    if not below:
        return None
    if not above:
        return below[-1].attainment
    low, high = below[-1], above[0]
    share = (AT_COST - low.cost_vs_oracle) / (high.cost_vs_oracle - low.cost_vs_oracle)
    return low.attainment + share * (high.attainment - low.attainment)
