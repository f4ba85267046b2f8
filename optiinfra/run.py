"""One `up`, from the lock to the report: starts the parts, watches them, shows them, stops them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping

import structlog
from rich.console import Console
from rich.live import Live

from contracts.clock import EventClock
from contracts.errors import OptiInfraError
from contracts.events import Severity
from optiinfra.announcer import Announcer
from optiinfra.attend import Work, attend
from optiinfra.collector import Collector
from optiinfra.guard import Guard
from optiinfra.health import HealthServer
from optiinfra.live import LiveState
from optiinfra.picture import Picture
from optiinfra.plan import STAGES, Plan
from optiinfra.report import Report
from optiinfra.settings import Settings
from optiinfra.statedir import CLOCK_RESERVE_S, StateDir
from optiinfra.supervisor import Change, Event, Supervisor
from optiinfra.view import alert_line, line, render
from optiinfra.wiring import open_publisher
from streams.publisher import KafkaPublisher

FRAME_S = 0.5
LINE_EVERY_S = 10.0
START_WITHIN_S = 90.0
LOCK_EVERY_S = 1.0


class Run:
    """A running platform. `console` gets progress, the table on a terminal, and plain lines elsewhere."""

    def __init__(
        self, settings: Settings, state: StateDir, plan: Plan, clock: EventClock, console: Console, *, headless: bool
    ) -> None:
        self.settings, self.state, self.plan, self.clock = settings, state, plan, clock
        self.console, self.headless = console, headless
        self.live = LiveState(speed=clock.anchor.speed)
        self.collector = Collector(self.live, clock.now_ms)
        self.announcer = Announcer(self.live, clock.now_ms)
        self.supervisor = Supervisor(
            plan.specs,
            logs=state.logs,
            listener=self._heard,
            after_ready={"broker": self._broker_ready},
            endpoints=plan.endpoints,
        )
        self.guard = Guard(self.supervisor, self.live, self.announcer)
        self.picture = Picture(settings, plan, clock, self.live, self.supervisor, self.guard)
        self.health = HealthServer(self.picture.vitals)
        self._publisher: KafkaPublisher | None = None
        self._leaving: list[asyncio.Future[None]] = []
        self._settled = False
        self._reading = False
        self._table = False
        self._alerts_told = 0
        self.stop_asked = asyncio.Event()
        self.failure: OptiInfraError | None = None
        self._log = structlog.get_logger("up")

    async def run(self, for_s: float | None) -> Report:
        """Run until a signal asks for the end or `for_s` wall seconds have passed; everything is stopped when this
        returns. `failure` then says what ended the run before its time, if anything did."""
        stop = self.stop_asked
        self._listen()
        await self.health.start(self.settings.health_port)
        background: list[asyncio.Task[None]] = []
        try:
            if self.settings.kafka:
                await self._connect(self.settings.kafka, from_end=True)
            self.picture.started_s = time.monotonic()
            self.supervisor.start()
            works: dict[str, Work] = {
                "announcer": self.announcer.run,
                "notes": self._keep_notes,
                "lock": self._keep_lock,
                "guard": lambda: self.guard.run(lambda: self._bootstrap),
                "alerts": self._tell_alerts,
            }
            for name, work in works.items():
                task = asyncio.create_task(attend(name, work, self._work_failed), name=f"attend-{name}")
                task.add_done_callback(self._work_ended)
                background.append(task)
            await self._starting(stop, for_s)
            await self._show(stop, for_s)
            return self.picture.report()
        finally:
            await self._stop(background)

    @property
    def _bootstrap(self) -> str:
        return self.supervisor.endpoints.get("bootstrap", "")

    def _listen(self) -> None:
        """SIGINT, SIGTERM and SIGHUP (the terminal was closed) ask for a clean stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop_asked.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it shall run on
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        if self.console.is_terminal:
            self.console.quiet = True  # whoever writes to a terminal that is gone fails
        self.stop_asked.set()

    def _work_failed(self, name: str, what: str) -> None:
        fix = f"See {self.state.logs}/supervisor.jsonl."
        self.announcer.alert("supervision_failing", Severity.CRITICAL, name, f"{name}: {what}", fix)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        """Work without which nobody looks after the children is over: so is the run."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if not isinstance(error, OptiInfraError):
                error = OptiInfraError(f"{type(error).__name__}: {error}", where=task.get_name())
            self._give_up(error)

    def _reader_ended(self, task: asyncio.Task[None]) -> None:
        """The collector is over though nobody closed it: from here on the picture would stand still."""
        if not self._reading:
            return
        error = None if task.cancelled() else task.exception()
        what = f"{type(error).__name__}: {error}" if error else "it ended"
        self._log.error("collector failed", what=what, exc_info=error)
        self._give_up(OptiInfraError(what, where="collector", fix=f"See {self.state.logs}/supervisor.jsonl."))
        self._work_failed("collector", what)

    def _give_up(self, error: OptiInfraError) -> None:
        self.failure = self.failure or error
        self.stop_asked.set()

    async def _starting(self, stop: asyncio.Event, for_s: float | None) -> None:
        """Wait until all is ready; say so and go on when something takes too long, for it may yet come."""
        ready = asyncio.ensure_future(self.supervisor.all_ready())
        stopped = asyncio.ensure_future(stop.wait())
        within_s = START_WITHIN_S if for_s is None else min(START_WITHIN_S, for_s)
        await asyncio.wait({ready, stopped}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in (ready, stopped):
            task.cancel()
        await asyncio.gather(ready, stopped, return_exceptions=True)
        late = [name for name, kept in self.supervisor.kept.items() if not kept.ready.is_set()]
        if late and not stop.is_set():
            self.console.print(f"[yellow]still not ready: {', '.join(late)}; see {self.state.logs}[/]")
        self._settled = True

    async def _show(self, stop: asyncio.Event, for_s: float | None) -> None:
        until_s = self.picture.started_s + for_s if for_s is not None else float("inf")

        async def pause(seconds: float) -> bool:
            left_s = min(seconds, until_s - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, left_s))
            return not stop.is_set() and time.monotonic() < until_s

        if self.headless or not self.console.is_terminal:
            while await pause(LINE_EVERY_S):
                self.console.print(line(self.picture.scene()), markup=False, highlight=False, soft_wrap=True)
            return
        self._table = True
        with Live(console=self.console, auto_refresh=False, transient=False, vertical_overflow="crop") as screen:
            go_on = True
            while go_on:
                screen.update(render(self.picture.scene(), self.console.width), refresh=True)
                go_on = await pause(FRAME_S)

    async def _stop(self, background: list[asyncio.Task[None]]) -> None:
        """Readers first, then children in reverse order, the clock's mark last."""
        self._settled = False
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        self._print_alerts()
        self._reading = False
        await self.collector.close()
        if self._publisher is not None:
            self._leaving.append(asyncio.ensure_future(self._publisher.stop()))
        await self.supervisor.stop()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self.health.stop()
        try:
            self.state.check_owned()  # else the clock's mark there is another's
            self.state.settle(self.clock.now_ms())
        except OptiInfraError as error:  # the reserve that was noted before holds as well
            self._log.error("clock not noted", error=str(error))

    async def _broker_ready(self, endpoints: Mapping[str, str]) -> None:
        """The embedded broker is up, for the first time or anew: read along there, and speak there."""
        await self._connect(endpoints["bootstrap"], from_end=False)

    async def _connect(self, bootstrap: str, *, from_end: bool) -> None:
        if self._publisher is not None:
            # Its broker is gone, and it waits for it some seconds before it gives up: nobody has to wait along.
            self._leaving.append(asyncio.ensure_future(self._publisher.stop()))
            self._publisher = self.announcer.publisher = None
        self._reading = False
        await self.collector.follow(bootstrap, from_end=from_end)
        self._reading = True
        for task in asyncio.all_tasks():
            if task.get_name() == "collector":
                task.add_done_callback(self._reader_ended)
        self._publisher = self.announcer.publisher = await open_publisher(bootstrap, "supervisor")

    async def _heard(self, event: Event) -> None:
        """Every change of a child: a progress line while starting, an alert where people should know."""
        if event.change is Change.READY and not self._settled:
            # A stage has yet to join its group and recover its state, which its heartbeats tell.
            done = "started" if event.child in STAGES else "ready"
            self.console.print(f"{event.child} … {done}{self._words(event.child)}", markup=False, highlight=False)
        if event.change in (Change.DIED, Change.LOOPING, Change.NOT_READY):
            self._alert(event)
        if event.change is Change.READY:
            self._note_run()

    def _words(self, child: str) -> str:
        words = {"broker": self.plan.broker, "store": self.plan.store, "redis": self.plan.redis}.get(child)
        return f" ({words})" if words else ""

    def _alert(self, event: Event) -> None:
        log = f"See {self.state.logs}/{event.child}.jsonl and {event.child}.stderr.log."
        if event.change is Change.LOOPING:
            self.announcer.alert("worker_failing", Severity.CRITICAL, event.child, event.detail, log)
        elif event.change is Change.NOT_READY:
            self.announcer.alert("worker_not_ready", Severity.WARNING, event.child, event.detail, log)
        elif event.child == "broker":
            summary = f"the embedded broker died ({event.detail}): what it held in memory is gone; all starts anew"
            fix = "For data that outlives a process set OPTIINFRA_KAFKA; `make kafka` starts one."
            self.announcer.alert("embedded_broker_lost", Severity.CRITICAL, event.child, summary, fix)
        else:
            summary = f"{event.child} died ({event.detail}) and is started again"
            self.announcer.alert("worker_restarted", Severity.WARNING, event.child, summary, log)

    def _note_run(self) -> None:
        try:
            self.state.write("run.json", self.picture.run_info(self.state.logs))
        except OptiInfraError as error:
            self._log.error("run.json not written", error=str(error))

    async def _keep_lock(self) -> None:
        """Raises Unavailable once the state directory is not ours any more: it was deleted under us."""
        while True:
            self.state.check_owned()
            await asyncio.sleep(LOCK_EVERY_S)

    async def _tell_alerts(self) -> None:
        """Print alerts as they come wherever no table shows them: headless, and while all starts."""
        while True:
            self._print_alerts()
            await asyncio.sleep(FRAME_S)

    def _print_alerts(self) -> None:
        alerts, count = self.live.alerts, self.live.counts.alerts
        new = min(len(alerts), count - self._alerts_told)
        self._alerts_told = count
        if new and not self._table:
            for alert in list(alerts)[-new:]:
                self.console.print(alert_line(alert), highlight=False, soft_wrap=True)

    async def _keep_notes(self) -> None:
        """Keep run.json and the clock's mark fresh; a disk that fills up is told once, and work goes on."""
        told = False
        while True:
            try:
                self.state.reserve(self.clock.now_ms(), self.clock.anchor.speed)
                self.state.write("run.json", self.picture.run_info(self.state.logs))
                told = False
            except OptiInfraError as error:
                if not told:
                    self.announcer.alert(
                        "state_dir_failing", Severity.CRITICAL, str(self.state.path), error.message, error.fix
                    )
                told = True
            await asyncio.sleep(CLOCK_RESERVE_S / 3)
