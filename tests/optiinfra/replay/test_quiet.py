"""While a replay runs the log is silent and the garbage collector rests; afterwards both are as they were."""

from __future__ import annotations

import gc

import pytest
import structlog

from optiinfra.replay.quiet import quiet


def _fail_in_the_quiet() -> None:
    with quiet():
        raise RuntimeError("the replay fails")


def test_log_and_collector_are_as_before_when_a_replay_has_failed() -> None:
    log, thresholds, frozen = structlog.get_config(), gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(RuntimeError):
        _fail_in_the_quiet()
    assert structlog.get_config() == log
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() <= frozen


def test_the_log_is_another_and_the_collector_is_called_seldom_and_leaves_out_what_was_there() -> None:
    before = gc.get_threshold()
    frozen, log = gc.get_freeze_count(), structlog.get_config()
    with quiet():
        assert structlog.get_config() != log
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > frozen


def test_cycles_of_a_replay_are_still_found() -> None:
    with quiet():
        gc.collect()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
