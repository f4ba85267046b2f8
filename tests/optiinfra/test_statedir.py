"""The state directory: one owner, files whole or absent, event time that never goes back."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.clock import ClockAnchor
from contracts.errors import Conflict, Unavailable
from optiinfra.statedir import CLOCK_RESERVE_S, ClockMark, RunInfo, StateDir, disk_errors

RUN = RunInfo(
    pid=os.getpid(),
    started_wall_ms=2,
    health_url="http://127.0.0.1:8686",
    broker="embedded, in memory",
    bootstrap="127.0.0.1:1",
    store="none",
    redis="none",
    fleet="simulated (twin)",
    anchor=ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=1),
)


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with StateDir(tmp_path).owned(), pytest.raises(Conflict) as caught, StateDir(tmp_path).owned():
        pass
    assert f"process {os.getpid()}" in str(caught.value)
    assert f"kill {os.getpid()}" in caught.value.fix


def test_the_lock_ends_with_its_owner(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from optiinfra.statedir import StateDir\n"
    code += "with StateDir(Path(sys.argv[1])).owned(): print('mine', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        assert StateDir(tmp_path).owner_pid() == other.pid
        other.kill()
    with StateDir(tmp_path).owned():
        assert StateDir(tmp_path).owner_pid() == os.getpid()
    assert StateDir(tmp_path).owner_pid() is None


def test_what_runs_is_told_only_while_it_runs(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.owned():
        state.write("run.json", RUN)
        assert state.run_info() == RUN
    assert state.run_info() is None


def test_what_an_earlier_run_left_is_not_taken_for_the_running_one(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.owned():
        state.write("run.json", RUN.model_copy(update={"pid": os.getpid() + 1}))
        assert state.run_info() is None
        state.write("run.json", RUN)
        assert state.run_info() == RUN


def test_a_run_that_acted_is_remembered_until_a_reset(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.owned():
        assert not state.acted()
        state.note_acted("a1")
        state.note_acted("a2")
        assert StateDir(tmp_path).acted()
    assert "acted.json" in state.reset()[0]
    assert not state.acted()


def test_a_broken_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "clock.json").write_text("{")
    assert StateDir(tmp_path).read("clock.json", ClockMark) is None


def test_event_time_is_wall_time_at_first(tmp_path: Path) -> None:
    assert StateDir(tmp_path).anchor(1_000, 20) == ClockAnchor(wall_anchor_ms=1_000, event_anchor_ms=1_000, speed=20)


@given(
    speed=st.floats(0.1, 100),
    next_speed=st.floats(0.1, 100),
    ran_s=st.floats(0, CLOCK_RESERVE_S),
    later_s=st.floats(0, 100_000),
)
def test_event_time_never_goes_back_after_a_kill(
    tmp_path_factory: pytest.TempPathFactory, speed: float, next_speed: float, ran_s: float, later_s: float
) -> None:
    state = StateDir(tmp_path_factory.mktemp("state"))
    first = state.anchor(1_000_000, speed)
    state.reserve(first.event_anchor_ms, speed)
    killed_wall_ms = 1_000_000 + ran_s * 1000
    second = state.anchor(int(killed_wall_ms + later_s * 1000), next_speed)
    assert second.event_anchor_ms >= first.event_ms(killed_wall_ms) - 1  # both are cut to whole milliseconds


def test_after_a_clean_stop_event_time_goes_on_where_it_ended(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.settle(5_000_000)
    assert state.anchor(1_000, 1).event_anchor_ms == 5_000_001
    assert state.anchor(9_000_000, 1).event_anchor_ms == 9_000_000


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EROFS, "cannot be read or written"),
        (errno.EACCES, "--state DIR"),
        (errno.EIO, "cannot be"),
        (errno.ENOENT, "removed"),
    ],
)
def test_what_the_disk_refuses_is_told_with_a_remedy(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(Unavailable, match=words), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_really_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is full"), disk_errors(tmp_path):
        Path("/dev/full").write_text("x", encoding="utf-8")  # every write there ends in ENOSPC


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(Unavailable, match="--state DIR"):
        StateDir(tmp_path / "state").sub("logs")


def test_reset_deletes_our_names_alone_and_refuses_while_owned(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with state.owned():
        with pytest.raises(Conflict):
            state.reset()
        state.settle(1)
    (state.sub("kafka") / "segment.log").write_text("")
    (state.path / ".clock.json.x7k2").write_text("half")
    (state.path / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (state.path / "store").symlink_to(tmp_path / "elsewhere")
    gone, left = state.reset()
    assert gone == [".clock.json.x7k2", "clock.json", "lock", "logs"]
    assert left == ["kafka", "notes.txt", "store"]
    assert state.reset() == ([], [])


def test_an_owner_notices_that_its_directory_was_removed_or_replaced(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with state.owned():
        state.check_owned()
        shutil.rmtree(state.path)
        with pytest.raises(Unavailable, match="removed or replaced"):
            state.check_owned()
        with pytest.raises(Unavailable, match="was removed"):
            state.settle(1)
        with StateDir(tmp_path / "state").owned(), pytest.raises(Unavailable, match="removed or replaced"):
            state.check_owned()


def test_looking_who_owns_it_keeps_nobody_out(tmp_path: Path) -> None:
    with StateDir(tmp_path).owned():
        pass
    code = "import fcntl, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_SH); print('looking', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code + "; sys.stdin.read()", str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"looking\n"
        assert StateDir(tmp_path).owner_pid() is None  # who looks is not taken for an owner by others who look
        later = threading.Timer(0.2, other.kill)
        later.start()
        with StateDir(tmp_path).owned():
            assert StateDir(tmp_path).owner_pid() == os.getpid()
        later.join()
