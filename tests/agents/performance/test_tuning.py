"""The search finds the best setting, tries nothing that is likely to break the objective, and says why."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.gaussian import Prior, guess
from agents.performance.core.trials import Measured, Setting, Tried
from agents.performance.core.tuning import Care, Space, Trial, Tuner, search
from contracts.errors import ConfigError

SETTINGS = tuple(Setting(s, t, 4) for s in (8, 16, 32, 64, 128, 256) for t in (256, 512, 1024, 2048, 4096) if t > s)
LIVE = 0.5


class Hill:
    """Goodput with one top; past `cliff` doublings of batched tokens the objective breaks."""

    def __init__(self, seqs: float = 6.0, tokens: float = 10.0, cliff: float = 11.5, running: float = 4.0) -> None:
        self.top, self.cliff, self.running, self.tried = (seqs, tokens), cliff, running, list[Setting]()

    def run(self, setting: Setting) -> Measured:
        self.tried.append(setting)
        seqs, tokens = log2(setting.max_num_seqs), log2(setting.max_num_batched_tokens)
        apart = (seqs - self.top[0]) ** 2 + (tokens - self.top[1]) ** 2
        goodput = 4 * 1.0 * np.exp(-apart / 20)
        return Measured(float(goodput), 0.4, float(np.exp2(0.5 * (tokens - self.cliff))), self.running)


def doublings(one: Setting, other: Setting) -> float:
    """The farther of the two knobs."""
    seqs = abs(log2(one.max_num_seqs / other.max_num_seqs))
    return max(seqs, abs(log2(one.max_num_batched_tokens / other.max_num_batched_tokens)))


def space(present: Setting, live_rps: float = LIVE) -> Space:
    return Space(SETTINGS, present, live_rps)


def test_it_begins_with_the_present_setting_and_finds_the_top() -> None:
    hill = Hill()
    done, past = search(hill, space(Setting(16, 512, 4)))
    assert past[0].setting == Setting(16, 512, 4)
    assert done.best == Setting(64, 1024, 4)
    assert done.broken == 0
    assert len(past) < len(SETTINGS) / 2


@given(st.floats(4, 7), st.floats(8.5, 11.5), st.sampled_from(SETTINGS[:20]))
def test_no_trial_but_the_first_was_thought_able_to_break_the_objective(
    seqs: float, tokens: float, at: Setting
) -> None:
    tuner, hill, past = Tuner(space(at)), Hill(seqs, tokens), list[Tried]()
    while isinstance(step := tuner.propose(past), Trial):
        assert step.setting not in {each.setting for each in past}
        if past:
            assert max(step.ttft_worst_ratio, step.itl_worst_ratio) <= 1
            assert step.low_rps >= LIVE
            assert any(each.measured.kept and doublings(each.setting, step.setting) <= 1 for each in past)
        past.append(Tried(step.setting, hill.run(step.setting)))
    assert len(past) <= Care().trials


def test_a_batch_too_small_for_the_live_requests_is_not_tried() -> None:
    hill = Hill(seqs=3.0, running=30.0)
    search(hill, space(Setting(64, 512, 4), 0.3))
    assert min(each.max_num_seqs for each in hill.tried) == 64
    free = Hill(seqs=3.0, running=1.0)
    search(free, space(Setting(64, 512, 4), 0.3))
    assert min(each.max_num_seqs for each in free.tried) < 64


def test_without_room_below_the_limit_nothing_new_is_tried() -> None:
    done, past = search(Hill(cliff=9.0), space(Setting(64, 512, 4)))
    assert [each.setting for each in past if each.setting.max_num_batched_tokens > 512] == []
    assert done.best is not None


def test_where_the_present_setting_breaks_the_objective_it_says_so_and_ends() -> None:
    done, past = search(Hill(cliff=7.0), space(Setting(64, 512, 4)))
    assert len(past) == 1
    assert done.best is None
    assert "nothing is known to be safe" in done.explain()


def test_it_ends_when_its_trials_are_used_up() -> None:
    done, past = search(Hill(), space(Setting(16, 512, 4)), Care(trials=3))
    assert len(past) == done.trials == 3
    assert "used up" in done.explain()


def test_the_same_past_gives_the_same_answer() -> None:
    first, second = (search(Hill(), space(Setting(16, 512, 4))) for _ in range(2))
    assert first == second


def test_each_step_says_its_numbers() -> None:
    first = Tuner(space(Setting(16, 512, 4))).propose([])
    assert first.explain() == "trial 1: 16 seqs, 512 tokens, TP 4: the present setting, live at 0.5 req/s per GPU"
    tuner, hill, here = Tuner(space(Setting(16, 512, 4))), Hill(), Setting(16, 512, 4)
    step = tuner.propose([Tried(here, hill.run(here))])
    assert isinstance(step, Trial)
    told = step.explain()
    for number in (f"{step.expected_rps:.3g}", f"{step.best_rps:.3g}", f"{step.safe} of {len(SETTINGS)}"):
        assert number in told


def test_a_space_without_the_present_setting_or_beyond_a_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="present"):
        Space(SETTINGS, Setting(7, 512, 4), LIVE)
    wide = Setting(64, 512, 16)
    with pytest.raises(ConfigError, match="GPUs"):
        Space((wide,), wide, LIVE)


def test_a_gaussian_process_passes_through_what_it_saw_and_doubts_what_is_far() -> None:
    places = np.array([[0.0, 0.0], [1.0, 0.5], [3.0, 1.0]])
    values = np.array([1.0, 2.0, 0.5])
    found = guess(places, values, np.full(3, 1e-4), np.vstack([places, [[50.0, 50.0]]]), Prior(0.7, 0.4))
    assert found.mean == pytest.approx([1.0, 2.0, 0.5, 0.7], abs=1e-3)
    assert found.spread == pytest.approx([0.0, 0.0, 0.0, 0.4], abs=1e-3)
