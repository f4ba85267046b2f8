"""Three replicas in front of stage `steering`: what each tells, settings and shares, and a log of anything."""

from __future__ import annotations

import random
from typing import Any

from agents.performance.core.steering_state import SteeringSettings, SteeringState
from agents.performance.core.trials import Setting
from agents.performance.stages import steering_stage
from contracts.events import Action, ActionKind, EndState, Finding, Message, Sli, SliValue
from contracts.laws.attainment import Attainment
from contracts.objectives import Objectives
from tests.agents import watching_desk
from tests.agents.watching_desk import ordered, outcome, tick, told

PRESENT = Setting(64, 512, 1)
SETTINGS = SteeringSettings(engines={"chat": PRESENT}, default=Objectives(ttft_s=1.0, itl_s=0.1))
NAMES = ("chat-0", "chat-1", "chat-2")


def latest(at_s: float, name: str | None = "chat-0", *, load: float = 20.0, up: int = 1, **fields: Any) -> Sli:
    """The newest scrape of a replica, or of all three (None)."""
    many = len(NAMES) if name is None else 1
    values = {"requests_running": load, "requests_waiting": 0.0, "replicas_up": float(up)}
    samples = {key: SliValue(value=value, samples=many) for key, value in values.items()} if up else {}
    return told(at_s, 0, samples, many=many, instance_id=name, **({"instances_up": many if up else 0} | fields))


def minute(
    end_s: float,
    name: str = "chat-0",
    *,
    busy: bool = True,
    late: float = 0.0,
    done: int | None = None,
    looked: int = 1,
    **changes: Any,
) -> Sli:
    """A minute of a replica: in a `busy` one the batch is full, with room in its memory; in another half is done.
    `late`: share of its requests that are, with first and further tokens alike. `done`: how many had a first token.
    `looked`: of how many tokens its hit ratios tell."""
    share, count = (1.0, 120) if busy else (0.5, 60)
    count = count if done is None else done
    values = {
        "requests_per_s": 2.0 * share,
        "requests_running": 62.0 if busy else 25.0,
        "requests_waiting": 1.0 if busy else 0.0,
        "requests_waiting_max": 6.0 if busy else 0.0,
        "kv_cache_usage_max_ratio": 0.4 * share,
        "preemptions_per_s": 0.0,
        "prompt_tokens_per_s": 2300.0 * share,
        "generation_tokens_per_s": 420.0 * share,
        "ttft_p95_s": 0.4 * share,
        "itl_p95_s": 0.05 * share,
    } | changes
    good = round(count * (1 - late))
    samples = {key: SliValue(value=value, samples=looked if "hit" in key else 1) for key, value in values.items()}
    met = {"ttft": Attainment(good=good, total=count), "itl": Attainment(good=count * 200, total=count * 200)}
    return told(end_s, 60, samples, many=1, instance_id=name, attainment=met)


def tune(at_s: float, setting: Setting, *names: str, tiers: bool = False) -> Action:
    """`tiers`: its KV tiers are set as well."""
    settings = {
        "max_num_seqs": float(setting.max_num_seqs),
        "max_num_batched_tokens": float(setting.max_num_batched_tokens),
    }
    if tiers:
        settings |= {"kv_offloading_size": float(setting.tiers[0]), "kv_disk_gb": float(setting.tiers[1])}
    shares = dict.fromkeys(names, 1.0)
    return ordered(at_s, ActionKind.TUNE, f"tune at {at_s}", replicas=len(names), settings=settings, by_replica=shares)


def route(at_s: float, shares: dict[str, float]) -> Action:
    return ordered(at_s, ActionKind.ROUTE, f"route at {at_s}", replicas=len(shares), by_replica=shares)


def random_log(seed: int, seconds: int = 1200) -> list[Message]:
    """Replicas that are full and idle, fail and come back, scrapes that are missing, told twice or of a wrong clock,
    and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    for at_s in range(10, seconds, 10):
        wrong_s = rng.choice([0.0] * 30 + [-40.0, -400.0, 3.0, 500.0])
        up = [name for name in NAMES if rng.random() < 0.97]
        log += [latest(at_s + wrong_s, name, load=rng.uniform(0, 70), up=int(name in up)) for name in NAMES]
        log.append(latest(at_s, None, instances_up=len(up)))
        if at_s % 60 == 0:
            busy = rng.random() < 0.4
            log += [minute(at_s, name, busy=busy, late=rng.choice([0.0, 0.0, 0.02])) for name in up]
        if rng.random() < 0.03:
            setting = Setting(rng.choice([32, 64, 128]), 512, 1)
            actions.append(tune(at_s, setting, *rng.sample(NAMES, rng.choice([1, 1, 2]))))
            log.append(actions[-1])
        if rng.random() < 0.02:
            actions.append(route(at_s, {"chat-0": 0.4, "chat-1": 0.4, "chat-2": 0.2}))
            log.append(actions[-1])
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


class Desk(watching_desk.Desk[SteeringState]):
    """The running stage."""

    def __init__(self, settings: SteeringSettings = SETTINGS) -> None:
        super().__init__(steering_stage(settings), SteeringState)

    def goes_on(
        self,
        minutes: int,
        *,
        load: float = 20.0,
        every: int = 4,
        silent: tuple[str, ...] = (),
        **by_name: dict[str, Any],
    ) -> None:
        """Scrapes and ticks every 10 s, and a minute of each replica, a busy one in `every`; those that are `silent` do
        not answer, and `chat_0={...}` changes what that one tells."""
        answer = [name for name in NAMES if name not in silent]
        for _ in range(minutes * 6):
            self.at_s += 10
            for name in NAMES:
                self.send(latest(self.at_s, name, load=load, up=int(name in answer)))
            self.send(latest(self.at_s, None, load=len(answer) * load, instances_up=len(answer)))
            if self.at_s % 60 == 0:
                for name in answer:
                    told = {"busy": self.at_s // 60 % every == 0} | by_name.get(name.replace("-", "_"), {})
                    self.send(minute(self.at_s, name, **told))
            self.send(tick(self.at_s))

    def asked(self, kind: str = "tuning") -> Finding:
        """The newest finding of a kind."""
        return [each for each in self.found if each.kind == kind][-1]

    def does(
        self,
        *,
        setting: Setting,
        names: tuple[str, ...],
        state: EndState = EndState.VERIFIED,
        tiers: bool = False,
    ) -> None:
        """An action that sets replicas anew, and how it ended a minute later."""
        action = tune(self.at_s, setting, *names, tiers=tiers)
        self.send(action)
        self.goes_on(1)
        self.send(outcome(action, self.at_s, state))
