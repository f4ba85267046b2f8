"""Every policy that replay knows, by name, in the order of its tables."""

from __future__ import annotations

from collections.abc import Sequence

from agents.performance.core.scaler import PredictiveScaler
from contracts.errors import ConfigError
from contracts.scaling import Scaler
from optiinfra.replay.peers import foreseen, hpa, keda, kpa, planner, reactive, static
from optiinfra.replay.policy import Course, Knobs, Policy, amount, grid

_TARGETS = (
    *(0.9, 0.95, 0.97, 0.98, 0.985, 0.9875, 0.99, 0.9925, 0.995, 0.9975, 0.9985, 0.999),
    *(0.9993, 0.9995, 0.9997, 0.9998, 0.9999),
)
_FEWER = (0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9985, 0.9993, 0.9997)
AS_OFTEN, FREELY = 42.0, 300.0
"""Turns a day: allowed 42, ours turns as often as the tuned HPA (50 a day; m-large, 3 min, days 8 to 14); 300 hold back
nobody who decides every 15 s. Each is a line of our operating points."""


def _ours(course: Course, knobs: Knobs) -> Scaler:
    return PredictiveScaler(course.facts, target=amount(knobs, "target"), turns_a_day=amount(knobs, "turns_a_day"))


OURS = Policy(
    "optiinfra",
    "OptiInfra's scaler: forecasts the need, rehearses on paper fleets, spends its error budget (docs/scaler.md)",
    _ours,
    grid(turns_a_day=(AS_OFTEN,), target=_TARGETS) + grid(turns_a_day=(FREELY,), target=_FEWER),
    main="target",
    memory_s=None,
)

WHOLE = "rules"
"""The whole policy as it stands in life, which is no scaler: `whole.py` runs it."""

STATIC_P99 = "static p99"
"""The number of replicas that never changes, of the account (`bill.py`): in pictures and tables only."""

POLICIES = (
    OURS,
    static.POLICY,
    hpa.POLICY,
    keda.WAITING,
    keda.RUNNING,
    kpa.POLICY,
    planner.POLICY,
    reactive.POLICY,
    foreseen.POLICY,
)


def chosen(text: str) -> tuple[Sequence[Policy], bool]:
    """The scalers of `all` or of names with commas between them, and whether the whole policy is among those. Raises
    ConfigError for a name that nobody has."""
    if text.strip() == "all":
        return POLICIES, True
    known = {policy.name: policy for policy in POLICIES}
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known and name != WHOLE]
    if unknown or not names:
        what = f"no policy {', '.join(map(repr, unknown))}" if unknown else "no policy named"
        raise ConfigError(what, where="--policy", fix=f"Write all, or some of {', '.join([*known, WHOLE])}.")
    return [known[name] for name in dict.fromkeys(names) if name != WHOLE], WHOLE in names
