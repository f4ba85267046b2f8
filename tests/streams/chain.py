"""Our real stages as worker processes, and the same stages as pure folds to compare them with."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from contracts.events import Heartbeat, Message, MetricsSnapshot, Sli, Tick, WorkerState
from contracts.topics import HEARTBEATS, Topic
from streams.brokers.admin import tail
from streams.core.slis import SliSettings
from streams.stages import stages
from tests.conftest import Broker
from tests.streams.faults import Life

REAL = {stage.name: stage for stage in stages(SliSettings())}


class RealWorker(Life):
    """A worker process of one of our stages."""

    def __init__(self, broker: Broker, stage: str, group: str, name: str | None = None) -> None:
        """`group` names the stage's group and changelog for this test, `name` the worker (by default the same)."""
        self.stage, self.group, self.name, self._bootstrap = stage, group, name or group, broker.bootstrap
        command = ["tests.streams.sli_worker", "--bootstrap", broker.bootstrap, "--stage", stage, "--group", group]
        super().__init__(*command, "--name", self.name, *(["--embedded"] if broker.embedded else []))

    def works(self) -> bool:
        """Whether this very process has said that it recovered; one that still starts cannot leave in order."""
        found = tail(self._bootstrap, HEARTBEATS.name, from_beginning=True, follow=False)
        beats = [each.message for each in found if isinstance(each.message, Heartbeat)]
        return any(beat.pid == self.process.pid and beat.state is WorkerState.WORKING for beat in beats)

    def kill_and_restart(self) -> None:
        """SIGKILL, and a new process at once."""
        self.still_lives()
        self.kill()
        self.start()

    def leave_and_join(self) -> None:
        """SIGTERM, a clean exit, and a new process. Only for one that works."""
        if self.still_lives() and self.terminate() == 0:
            self.start()
        else:
            self.still_lives()


class PureChain:
    """The same stages as folds, without a broker: what must come out."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], BaseModel | None] = {}
        self.outputs: list[Message] = []

    def _step(self, stage: str, key: str, message: Message) -> list[Message]:
        self._states[stage, key], made = REAL[stage].step(self._states.get((stage, key)), [message])
        return made

    def scrapes(self, log: Iterable[MetricsSnapshot]) -> None:
        for scrape in log:
            self.outputs += self._step("latest", scrape.key, scrape)
            for window in self._step("windows", REAL["windows"].state_key(scrape) or "", scrape):
                self.outputs += [window, *self._step("slis", window.key, window)]

    def ticks(self, ticks: Iterable[Tick]) -> None:
        for tick in ticks:
            for stage, key in sorted(self._states):
                self.outputs += self._step(stage, key, tick)


def by_workload(messages: Iterable[Message]) -> dict[tuple[str, str], list[Message]]:
    """Each id once, in order, by stage and workload; a repeat must be equal to the first."""
    first: dict[str, Message] = {}
    found: dict[tuple[str, str], list[Message]] = {}
    for message in messages:
        if first.setdefault(message.id, message) is message:
            kind = "latest" if isinstance(message, Sli) and message.size_s == 0 else message.TYPE
            found.setdefault((kind, message.key), []).append(message)
        assert first[message.id] == message, "a repeat says something else"
    return found


def put_out(broker: Broker, topic: Topic, workers: set[str]) -> list[Message]:
    found = tail(broker.bootstrap, topic.name, from_beginning=True, follow=False)
    return [each.message for each in found if each.message and each.record.header("ce_source") in workers]
