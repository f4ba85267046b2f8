"""The supervisor with real child processes: order, restarts, clean ends, nobody left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import psutil
import pytest
import structlog.testing

from contracts.errors import Unavailable
from optiinfra.backoff import Backoff
from optiinfra.child import ChildSpec
from optiinfra.supervisor import Change, Event, Phase, Supervisor, layers

WORKS = "import signal, sys; print('{\"ready\": {%s}}', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); " + WORKS
QUICK = Backoff(first_s=0.01, longest_s=0.02, slow_s=0.01)


def child(name: str, *needs: str, code: str = WORKS % "", **more: object) -> ChildSpec:
    return ChildSpec(name=name, argv=(sys.executable, "-c", code), depends_on=needs, **more)  # type: ignore[arg-type]  # test data


class Theatre:
    """A supervisor and what it told."""

    def __init__(self, logs: Path, *specs: ChildSpec, **more: object) -> None:
        self.events: list[Event] = []
        self.supervisor = Supervisor(specs, logs=logs, listener=self._hear, backoff=QUICK, **more)  # type: ignore[arg-type]  # test data

    async def _hear(self, event: Event) -> None:
        self.events.append(event)

    def told(self, change: Change) -> list[str]:
        return [event.child for event in self.events if event.change is change]

    async def ready(self) -> Supervisor:
        self.supervisor.start()
        await asyncio.wait_for(self.supervisor.all_ready(), 30)
        return self.supervisor

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - what is waited for are facts about processes
                await asyncio.sleep(0.01)


Stage = Callable[..., Theatre]


@pytest.fixture
async def theatre(tmp_path: Path) -> AsyncIterator[Stage]:
    made: list[Theatre] = []

    def make(*specs: ChildSpec, **more: object) -> Theatre:
        made.append(Theatre(tmp_path, *specs, **more))
        return made[-1]

    yield make
    for one in made:
        await one.supervisor.stop()


async def test_children_start_after_those_they_depend_on_and_stop_in_reverse(theatre: Stage) -> None:
    play = theatre(child("stage", "broker", "store"), child("broker"), child("store", "broker"))
    supervisor = await play.ready()
    assert play.told(Change.READY) == ["broker", "store", "stage"]
    await supervisor.stop()
    assert play.told(Change.STOPPED) == ["stage", "store", "broker"]
    assert supervisor.pids == {}


async def test_a_killed_child_is_started_again_with_another_pid(theatre: Stage) -> None:
    play = theatre(child("worker"))
    supervisor = await play.ready()
    before = supervisor.pids["worker"]
    os.kill(before, signal.SIGKILL)
    await play.until(lambda: len(play.told(Change.READY)) == 2)
    assert supervisor.pids["worker"] != before
    assert supervisor.restarts == 1
    assert [event.detail for event in play.events if event.change is Change.DIED] == ["signal 9"]


async def test_what_a_child_said_last_is_in_the_news_of_its_death(theatre: Stage) -> None:
    play = theatre(child("worker", code="raise SystemExit('no such file: tokens.json')"))
    play.supervisor.start()
    await play.until(lambda: Change.DIED in [event.change for event in play.events])
    died = next(event for event in play.events if event.change is Change.DIED)
    assert died.detail == "exit code 1: no such file: tokens.json"


async def test_a_crash_loop_is_told_once_and_attempts_go_on(theatre: Stage) -> None:
    play = theatre(child("worker", code="raise SystemExit(3)"))
    play.supervisor.start()
    await play.until(lambda: len(play.told(Change.DIED)) >= 7)
    assert play.told(Change.LOOPING) == ["worker"]


async def test_whoever_falls_with_the_broker_is_restarted_with_its_new_address(theatre: Stage, tmp_path: Path) -> None:
    told: list[str] = []

    def orders(endpoints: Mapping[str, str]) -> str:
        told.append(endpoints["bootstrap"])
        return ""

    broker = child(
        "broker", code='import os; b = \'"bootstrap": "%d"\' % os.getpid(); ' + WORKS.replace("%s", "' + b + '") % ()
    )
    play = theatre(broker, child("stage", "broker", falls_with=("broker",), orders=orders), child("other"))
    supervisor = await play.ready()
    first, other = supervisor.pids["broker"], supervisor.pids["other"]
    os.kill(first, signal.SIGKILL)
    await play.until(lambda: play.told(Change.READY).count("stage") == 2)
    assert told == [str(first), str(supervisor.pids["broker"])]
    assert supervisor.pids["other"] == other


async def test_a_child_that_is_not_ready_in_time_is_killed_and_tried_again(theatre: Stage) -> None:
    play = theatre(child("mute", code="import signal; signal.pause()", ready_within_s=0.2))
    play.supervisor.start()
    await play.until(lambda: len(play.told(Change.STARTING)) >= 2)
    assert play.told(Change.NOT_READY)[0] == "mute"


async def test_a_failed_step_after_readiness_counts_as_a_failed_start(theatre: Stage) -> None:
    tries: list[int] = []

    async def make_topics(_: Mapping[str, str]) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("no broker yet")

    after: dict[str, Callable[[Mapping[str, str]], Awaitable[None]]] = {"broker": make_topics}
    play = theatre(child("broker"), child("stage", "broker"), after_ready=after)
    await play.ready()
    assert play.told(Change.READY) == ["broker", "stage"]
    assert play.told(Change.DIED) == ["broker"]


async def test_a_probe_tells_when_a_foreign_program_is_ready(theatre: Stage) -> None:
    asked: list[int] = []

    async def probe() -> Mapping[str, str] | None:
        asked.append(1)
        return {"redis_url": "redis://x"} if len(asked) > 2 else None

    play = theatre(child("redis", code="import signal; signal.pause()", probe=probe))
    supervisor = await play.ready()
    assert supervisor.endpoints == {"redis_url": "redis://x"}


async def test_a_child_that_ignores_sigterm_is_killed(theatre: Stage) -> None:
    play = theatre(child("stubborn", code=STUBBORN % "", stop_within_s=0.2))
    supervisor = await play.ready()
    pid = supervisor.pids["stubborn"]
    with structlog.testing.capture_logs() as logs:
        await supervisor.stop()
    assert not psutil.pid_exists(pid)
    assert [entry["child"] for entry in logs if entry["event"].startswith("killed")] == ["stubborn"]


async def test_a_listener_that_fails_costs_no_child_its_keeper_and_no_layer_its_stop(tmp_path: Path) -> None:
    told: list[Event] = []

    async def hear(event: Event) -> None:
        told.append(event)
        if event.change is not Change.READY:
            raise OSError("no space left")

    supervisor = Supervisor([child("broker"), child("stage", "broker")], logs=tmp_path, listener=hear, backoff=QUICK)
    supervisor.start()
    await asyncio.wait_for(supervisor.all_ready(), 30)
    os.kill(supervisor.pids["stage"], signal.SIGKILL)
    async with asyncio.timeout(30):
        while [event.child for event in told if event.change is Change.READY].count("stage") < 2:  # noqa: ASYNC110 - facts
            await asyncio.sleep(0.01)
    pids = supervisor.pids
    await supervisor.stop()
    assert [event.child for event in told if event.change is Change.STOPPED] == ["stage", "broker"]
    assert [pid for pid in pids.values() if psutil.pid_exists(pid)] == []


async def test_a_child_that_cannot_be_stopped_does_not_keep_the_others_running(
    theatre: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = await theatre(child("broker"), child("stage", "broker")).ready()
    stage = supervisor.kept["stage"].child
    assert stage is not None

    async def fails() -> None:
        stage.kill()
        raise OSError("not today")

    monkeypatch.setattr(stage, "stop", fails)
    await supervisor.stop()
    assert supervisor.pids == {}


PARENT = """
import subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print('{"ready": {"grandchild": "%d"}}' % grandchild.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["", "import signal; signal.pause()"])
async def test_what_a_child_had_started_goes_with_it(theatre: Stage, end: str) -> None:
    play = theatre(child("worker", code=PARENT + end))
    supervisor = await play.ready()
    grandchild = psutil.Process(int(supervisor.endpoints["grandchild"]))
    if end:
        await supervisor.stop()
    await play.until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


async def test_stopping_while_children_still_start_leaves_nobody(theatre: Stage) -> None:
    play = theatre(child("slow", code="import signal; signal.pause()"), child("waits", "slow"))
    play.supervisor.start()
    await play.until(lambda: "slow" in play.supervisor.pids)
    pid = play.supervisor.pids["slow"]
    await play.supervisor.stop()
    assert not psutil.pid_exists(pid)
    assert play.supervisor.kept["waits"].phase is Phase.STOPPED


async def test_a_program_that_is_not_there_is_named(theatre: Stage) -> None:
    play = theatre(ChildSpec(name="redis", argv=("/nowhere/redis-server",)))
    play.supervisor.start()
    await play.until(lambda: bool(play.told(Change.DIED)))
    assert "/nowhere/redis-server cannot be started" in play.events[0].detail


def test_children_that_wait_for_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for one another"):
        layers([child("a", "b"), child("b", "a")])


SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
import psutil
from optiinfra import logs
from optiinfra.child import ChildSpec
from optiinfra.supervisor import Supervisor

ENDLESS = "import optiinfra.process as p, signal, sys; p.die_with(int(sys.argv[1])); p.say_ready({}); signal.pause()"

async def main():
    me = str(os.getpid())
    ours = ChildSpec("ours", (sys.executable, "-c", ENDLESS, me))
    async def probe(): return {}
    wrapped = (sys.executable, "-m", "optiinfra.process", "--exec", me, "sleep", "600")
    foreign = ChildSpec("foreign", wrapped, probe=probe)
    async def hear(event): pass
    with logs.logging_to("supervisor", Path(sys.argv[1])):
        supervisor = Supervisor([ours, foreign], logs=Path(sys.argv[1]), listener=hear)
        supervisor.start()
        await supervisor.all_ready()
        while psutil.Process(supervisor.pids["foreign"]).name() != "sleep":
            await asyncio.sleep(0.01)
        print(*supervisor.pids.values(), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    children = [psutil.Process(int(pid)) for pid in line.split()]
    assert len(children) == 2
    process.kill()
    await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    assert alive == []
