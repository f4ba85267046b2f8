"""Any schedule of what happens to several actions on one target, a turn at a time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from contracts.events import ControlKind
from contracts.ports import StepState
from tests.agents.fakes import Fate


@dataclass(frozen=True)
class Turn:
    """What happens between two looks. `new`: an action that is decided, `up`, `stack` or `down`. `lies`: so many more
    replicas are measured than serve. `crash_at` counts writes of the ledger."""

    passes_s: float
    states: tuple[StepState, ...] = ()
    fates: tuple[Fate, ...] = ()
    new: str = ""
    replicas: int = 1
    lies: int = 0
    load: float | None = 2
    away: bool = False
    said: ControlKind | None = None
    crash_at: int | None = None
    crash_after_write: bool = False


turns = st.builds(
    Turn,
    passes_s=st.sampled_from([0.5, 1, 5, 5, 11, 20, 31, 130]),
    states=st.lists(
        st.sampled_from([StepState.DONE, StepState.RUNNING, StepState.RUNNING, StepState.FAILED]), max_size=4
    ).map(tuple),
    fates=st.lists(st.sampled_from([*[Fate.TAKEN] * 6, *Fate]), max_size=2).map(tuple),
    new=st.sampled_from(["", "", "stack", "stack", "stack", "up", "down"]),
    replicas=st.integers(1, 2),
    lies=st.sampled_from([0, 0, 0, 0, -1, 2]),
    load=st.sampled_from([None, 2, 2, 2, 2, 9]),
    away=st.sampled_from([False] * 9 + [True]),
    said=st.sampled_from([*[None] * 16, ControlKind.KILL, ControlKind.RESUME, ControlKind.RESUME]),
    crash_at=st.sampled_from([None] * 5 + [1, 2, 3]),
    crash_after_write=st.booleans(),
)
schedules = st.lists(turns, min_size=4, max_size=16)
