"""What trials of engine settings left behind: settings that were tried, and for how long they are left alone."""

from __future__ import annotations

from agents.performance.core.steering_state import Declared, Learnt, TuningState
from agents.performance.core.trials import Setting

DAY_MS = 86_400_000
PAST_LIMIT, WORDS_LIMIT = 20, 1000
FOREVER_MS = 1 << 53
"""KV tiers that were taken back are not tried again, until others are declared: then they are forgotten."""


def with_learnt(state: TuningState, learnt: Learnt) -> TuningState:
    """With one more, in place of what was known of that setting. Only what is barred for a while is ever too much."""
    past = [*(each for each in state.past if each.setting != learnt.setting), learnt]
    while sum(each.until_ms < FOREVER_MS for each in past) > PAST_LIMIT:
        past.remove(next(each for each in past if each.until_ms < FOREVER_MS))
    return state.model_copy(update={"past": tuple(past)})


def without_past(state: TuningState, present: Setting | None, declared: Declared | None, at_ms: int) -> TuningState:
    """Without what no longer counts: what is over, or had other tiers than there are and are declared."""
    tiers = {each.tiers for each in (present, declared) if each is not None}
    past = tuple(each for each in state.past if each.until_ms > at_ms and each.setting.tiers in tiers)
    return state.model_copy(update={"past": past}) if len(past) != len(state.past) else state


def barred_ms(present: Setting, to: Setting, at_ms: int) -> int:
    """Until when a setting that was taken back is left alone."""
    return at_ms + DAY_MS if to.tiers == present.tiers else FOREVER_MS
