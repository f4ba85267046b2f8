"""Scenarios: made-up days on which something happens, each by a name, so that anyone can replay them without a trace.

All traffic is drawn by `connectors.traces.generated` from numbers measured on ServeGen's m-large, and all mishaps are
assumed. The first hours of each are for learning, and are not scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.traces.generated import Profile, Surge, arrivals
from connectors.traces.shape import Load
from connectors.twin.fluid import Span
from contracts.errors import ConfigError
from optiinfra.replay.mishaps import Loss, Mishaps, Slowdown, storm
from optiinfra.replay.spot import RecordedZone

LIST = "list"
DEFAULT_POLICIES = "hpa,kpa,rules"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400

CALM = Profile(day_ratio=0.2, peak_h=5.0, week_ratio=0.0, drift_ratio=0.08, bursts_per_day=0.0)
"""Nothing happens by itself: little drift, no bursts, the top of the day at its fifth hour."""


@dataclass(frozen=True)
class Storm:
    """Spot zones that lose their capacity again and again in seconds [begin, begin + length)."""

    begin_s: int
    length_s: int
    zones: int = 5


@dataclass(frozen=True)
class Scenario:
    """One made-up day. Scored is [`scored_from_s`, `length_s`); `watched_s` is the time in which it matters, told by
    itself. Spans and moments are seconds from its beginning."""

    name: str
    title: str
    story: str
    length_s: int
    scored_from_s: int
    watched_s: Span
    profile: Profile = CALM
    surges: tuple[Surge, ...] = ()
    startup_s: int = 180
    mishaps: Mishaps = field(default_factory=Mishaps)
    outages: tuple[Span, ...] = ()
    storm: Storm | None = None

    def load(self, seed: int) -> Load:
        """Its requests of each second."""
        return arrivals(self.profile, self.length_s, seed, self.name, self.surges)

    def zones(self, seed: int) -> dict[str, RecordedZone]:
        """Its spot zones, none where it has no storm."""
        storms = self.storm
        return storm(storms.begin_s, storms.length_s, storms.zones, seed) if storms else {}

    @property
    def bands_s(self) -> tuple[tuple[int, int], ...]:
        """When something is amiss that lasts: what a picture shades."""
        found = [(each.begin_s, each.end_s) for each in self.outages]
        found += [(each.begin_s, each.end_s) for each in self.mishaps.slowdowns]
        if self.storm:
            found.append((self.storm.begin_s, self.storm.begin_s + self.storm.length_s))
        return tuple(found)


SCENARIOS = (
    Scenario(
        "burst",
        "Three bursts",
        "An even evening on which traffic jumps three times: to 1.6 times for five minutes, to twice for ten minutes, "
        "to 1.5 times for half an hour. Each is there within half a minute; a replica takes three to start.",
        6 * _HOUR_S,
        2 * _HOUR_S,
        Span(3 * _HOUR_S, 3 * _HOUR_S + 150 * _MINUTE_S),
        surges=(
            Surge(3 * _HOUR_S, 5 * _MINUTE_S, 1.6, 30),
            Surge(4 * _HOUR_S, 10 * _MINUTE_S, 2.0, 30),
            Surge(5 * _HOUR_S, 30 * _MINUTE_S, 1.5, 30),
        ),
    ),
    Scenario(
        "diurnal-week",
        "A week of days and nights",
        "Seven days with the wave, the drift and the bursts that were measured on m-large: load changes threefold "
        "between night and noon. The first day is for learning; the hours watched are the last day's rise.",
        7 * _DAY_S,
        _DAY_S,
        Span(6 * _DAY_S + 6 * _HOUR_S, 6 * _DAY_S + 12 * _HOUR_S),
        profile=Profile(),
    ),
    Scenario(
        "model-launch",
        "A model is launched",
        "After four hours a new model is announced: within ten minutes traffic is two and a half times what it was, "
        "and it stays there.",
        8 * _HOUR_S,
        2 * _HOUR_S,
        Span(4 * _HOUR_S, 5 * _HOUR_S),
        surges=(Surge(4 * _HOUR_S, _DAY_S, 2.5, 10 * _MINUTE_S),),
    ),
    Scenario(
        "zone-loss",
        "A zone is lost",
        "One of three zones fails at the top of the day: a third of the replicas that serve vanishes within a second, "
        "without a word before. Requests in service on them are interrupted.",
        7 * _HOUR_S,
        2 * _HOUR_S,
        Span(5 * _HOUR_S, 6 * _HOUR_S),
        mishaps=Mishaps(losses=(Loss(at_s=5 * _HOUR_S, ratio=1 / 3),)),
    ),
    Scenario(
        "spot-storm",
        "An hour of spot losses",
        "Half of the replicas are spot, spread over five zones, above on-demand ones for half of the load. For an hour "
        "every zone loses its capacity every few minutes. Each loss is told two minutes before it comes, and the "
        "operator's cloud orders a replacement then.",
        8 * _HOUR_S,
        2 * _HOUR_S,
        Span(5 * _HOUR_S, 6 * _HOUR_S),
        storm=Storm(5 * _HOUR_S, _HOUR_S),
    ),
    Scenario(
        "metrics-outage",
        "Half an hour without measurements",
        "No scrape is answered for half an hour at the top of the day, and ten minutes into it traffic rises by three "
        "fifths within fifteen minutes. What serves goes on serving; only nobody sees it.",
        8 * _HOUR_S,
        2 * _HOUR_S,
        Span(4 * _HOUR_S + 30 * _MINUTE_S, 5 * _HOUR_S + 30 * _MINUTE_S),
        surges=(Surge(4 * _HOUR_S + 40 * _MINUTE_S, 2 * _HOUR_S, 1.6, 15 * _MINUTE_S),),
        outages=(Span(4 * _HOUR_S + 30 * _MINUTE_S, 5 * _HOUR_S),),
    ),
    Scenario(
        "bad-deploy",
        "A deploy that makes replicas slow",
        "From one second to the next every replica serves 60 % of what it did and requests take as much longer, until "
        "the deploy is taken back after two hours. Nothing announces it: it shows in what is measured, or not at all.",
        9 * _HOUR_S,
        2 * _HOUR_S,
        Span(4 * _HOUR_S, 5 * _HOUR_S),
        mishaps=Mishaps(slowdowns=(Slowdown(begin_s=4 * _HOUR_S, end_s=6 * _HOUR_S, ratio=0.6),)),
    ),
    Scenario(
        "slow-start-up",
        "Replicas that take twelve minutes to start",
        "A day with its wave and bursts on a fleet whose replicas load for twelve minutes instead of three. In the "
        "thirteenth hour traffic doubles within ten minutes, for two hours.",
        _DAY_S,
        6 * _HOUR_S,
        Span(12 * _HOUR_S, 13 * _HOUR_S),
        profile=Profile(week_ratio=0.0, drift_ratio=0.1),
        surges=(Surge(12 * _HOUR_S, 2 * _HOUR_S, 2.0, 10 * _MINUTE_S),),
        startup_s=720,
    ),
)


def scenario(name: str) -> Scenario:
    """A scenario by its name. Raises ConfigError, which tells them all, for a name that none has."""
    for each in SCENARIOS:
        if each.name == name.strip():
            return each
    names = ", ".join(each.name for each in SCENARIOS)
    raise ConfigError(f"no scenario {name!r}", where="--scenario", fix=f"Write one of {names}; {LIST} tells of each.")


def listed() -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Columns and lines for people: each scenario with its story."""
    return ("scenario", "length", "start-up", "what happens"), [
        (each.name, f"{each.length_s / _HOUR_S:g} h", f"{each.startup_s / _MINUTE_S:g} min", each.story)
        for each in SCENARIOS
    ]
