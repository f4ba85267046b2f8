"""What stage `steering` knows of a workload, and what it is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from agents.core.watcher import Patience
from agents.performance.core.canary import Canary, Terms
from agents.performance.core.capacity import CapacityModel
from agents.performance.core.comparing import Effect
from agents.performance.core.minutes import Minutes
from agents.performance.core.trials import Measured, Setting
from agents.performance.core.usage import Usage, Why
from contracts.objectives import Objectives


@dataclass(frozen=True)
class Declared:
    """The KV tiers that the replicas of a workload shall have (GiB of host memory, GB of disk), and event seconds for
    which a canary with them warms up and is then watched."""

    tiers: tuple[int, int]
    warm_s: float = 900.0
    watch_s: float = 1800.0

    def on(self, setting: Setting) -> Setting:
        """A setting with these tiers."""
        return replace(setting, kv_offloading_size=self.tiers[0], kv_disk_gb=self.tiers[1])


@dataclass(frozen=True)
class SteeringSettings(Patience):
    """`engines`: the settings that the replicas of a workload were launched with, as far as is known. `tiers`: the KV
    tiers that they shall have, where people said so. `objectives`: by workload, `default` where none is named.

    Event seconds: replicas that told nothing for `max_age_s` do not answer, and are forgotten after `gone_s`. One that
    is listed and has not answered for `hang_s`, or for as long as the newest change of settings was given a replica, is
    waited for no more. Of a workload that is forgotten a trial that runs and the setting that was given to all stay.
    """

    engines: Mapping[str, Setting] = field(default_factory=dict)
    tiers: Mapping[str, Declared] = field(default_factory=dict)
    objectives: Mapping[str, Objectives] = field(default_factory=dict)
    default: Objectives = field(default_factory=Objectives)
    terms: Terms = field(default_factory=Terms)
    max_age_s: float = 30.0
    gone_s: float = 300.0
    hang_s: float = 900.0

    def objectives_of(self, workload: str) -> Objectives:
        """What the workload promises."""
        return self.objectives.get(workload, self.default)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Heard(_Part):
    """The newest latest SLI of a replica: when it ends, whether the replica answered, since when it does not, and its
    requests. `load`, `waiting` and `scrapes` are sums since the last look at the balance."""

    end_ms: int
    up: bool
    silent_ms: int | None = None
    now: float = 0.0
    load: float = 0.0
    waiting: float = 0.0
    scrapes: int = 0

    def hangs(self, for_s: float) -> bool:
        """Whether it has not answered for longer than `for_s`."""
        return self.silent_ms is not None and self.end_ms - self.silent_ms > for_s * 1000


class Whole(_Part):
    """The newest latest SLI of the workload: its end, the replicas listed, those that answered, and what made it."""

    end_ms: int
    listed: int
    up: int
    cause_ms: int


class Learnt(_Part):
    """A setting that was tried: what it showed (None where it was taken back before anything was seen), whether it was
    kept, until when it is not tried again, and why it was taken back."""

    setting: Setting
    measured: Measured | None = None
    kept: bool
    until_ms: int
    words: str = ""


class Phase(StrEnum):
    """Of a trial: none; a canary has the setting; the rest is to have it; the canary is to lose it."""

    IDLE = "idle"
    TRYING = "trying"
    ROLLING = "rolling"
    BACK = "back"


class Trial(_Part):
    """A canary, whom a roll-out has `reached` beside it (True: surely), who was `there` since the roll-out began (None:
    there was none; who comes later may have been launched with it), and what was seen of it since `since_ms`: its
    `requests` beside those of the rest, minutes that were `telling`, and in those the requests that it finished and
    that a replica of the rest did (`paced`), with the variance that chance gives to their difference (`spread`);
    minutes in a row in which nothing came of its requests (`silent`). `effect`: of a trial of KV tiers, what those do.
    `verdict` says why it was kept or is taken back, and `bar_ms` for how long it is left alone then, where not as
    usual. `refused`: how often what was asked for was not done, of them `needless` in a row as there was nothing to do;
    it is asked for again from `again_ms` on."""

    setting: Setting
    canary: str
    reached: dict[str, bool] = {}
    there: tuple[str, ...] | None = None
    why: Why
    since_ms: int
    requests: Canary
    usage: Usage = Usage()
    capacity: CapacityModel = CapacityModel()
    telling: int = 0
    paced: tuple[float, float] = (0.0, 0.0)
    spread: float = 0.0
    silent: int = 0
    effect: Effect | None = None
    verdict: str = ""
    bar_ms: int | None = None
    refused: int = 0
    needless: int = 0
    again_ms: int = 0


class TuningState(_Part):
    """`present`: the setting that was given to all (None: the one that they were launched with), and `given`: the
    replicas that were given it, or that nobody could give it; a new one starts as it is launched. `launched`: of one a
    controller said that it has it already. `parked`: a trial that is over, of which replicas that hang may still have
    the setting; they lose it when they answer. `busy`: the action
    under way, and until when it is waited for, `restart_s`: the seconds that the newest was given a replica; `ended`:
    those that have, newest last. `told`: what was told last, with the time of it."""

    phase: Phase = Phase.IDLE
    present: Setting | None = None
    given: tuple[str, ...] = ()
    launched: bool = False
    trial: Trial | None = None
    parked: Trial | None = None
    usage: Usage = Usage()
    capacity: CapacityModel = CapacityModel()
    past: tuple[Learnt, ...] = ()
    busy: str = ""
    busy_until_ms: int = 0
    restart_s: float | None = None
    ended: tuple[str, ...] = ()
    told_ms: int = 0
    told: tuple[int, tuple[str, ...]] = (0, ())


class BalanceState(_Part):
    """`shares`: those that were set last. `capacity`: what each replica was seen to do. `looked_ms`: the last look."""

    shares: dict[str, float] = {}
    capacity: dict[str, CapacityModel] = {}
    looked_ms: int = 0
    ended: tuple[str, ...] = ()


class SteeringState(_Part):
    """Per workload, beside what every watcher knows: `replicas` and `whole` say who answers; then what each of its
    parts knows."""

    workload: str
    heard_ms: int
    tick_ms: int | None = None
    replicas: dict[str, Heard] = {}
    whole: Whole | None = None
    minutes: Minutes = Minutes()
    tuning: TuningState = TuningState()
    balance: BalanceState = BalanceState()
