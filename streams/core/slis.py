"""Stage `slis`: the evidence of all instances of a workload becomes its SLIs, window by window, revision by revision.

An instance's own SLIs leave as soon as its evidence arrives. The workload's window is told when every member has
reported past its end, or when a tick says that its grace is over; evidence that comes later makes a new revision.
A window for which nobody reported is told too, with coverage 0: silence is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from contracts.events import Alert, InstanceWindow, Message, Severity, Sli, Tick
from contracts.objectives import Objectives
from streams.core.totals import Totals, lift, plus
from streams.core.values import Subject, sli_of
from streams.core.windows import SIZES_S

TICK_STEP_MS = 10_000
"""A tick that changes nothing else is remembered once in so much event time."""


@dataclass(frozen=True)
class SliSettings:
    """Event-time limits, seconds.

    `grace_s`: how long a silent member is waited for after a window's end. `late_s`: how long a told window can be
    revised. `ahead_s`: how far past the newest tick data may close a window (a scraper's clock may be ahead).
    `retire_s`: a member that has not reported for so long has left. `forget_s`: a workload that nobody reports on for
    so long is dropped, and its silence no longer told.
    """

    sizes_s: tuple[int, ...] = SIZES_S
    grace_s: float = 10.0
    late_s: float = 60.0
    ahead_s: float = 60.0
    retire_s: float = 90.0
    forget_s: float = 900.0
    objectives: dict[str, Objectives] = field(default_factory=dict)
    default: Objectives = field(default_factory=Objectives)


class Book(BaseModel):
    """One window of the workload: who reported and their total; `told` is the last revision told, None while open."""

    model_config = ConfigDict(frozen=True)

    size_s: int
    start_ms: int
    reported: dict[str, int] = {}
    totals: Totals = Totals()
    told: int | None = None

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.size_s * 1000


class WorkloadState(BaseModel):
    """Per workload. `frontier_ms[instance][size]` is the end of the newest window that an instance reported,
    `told_ms[size]` the end of the newest window told."""

    model_config = ConfigDict(frozen=True)

    workload: str
    tick_ms: int = 0
    heard_ms: int = 0
    frontier_ms: dict[str, dict[int, int]] = {}
    told_ms: dict[int, int] = {}
    books: dict[str, Book] = {}
    silent: bool = False
    stuck: bool = False


class SliFold:
    """The fold, a class so that its parts share the settings; it holds no state of its own."""

    def __init__(self, settings: SliSettings) -> None:
        self.settings = settings

    def advance(self, state: BaseModel | None, message: Message) -> tuple[BaseModel | None, list[Message]]:
        """Fold one message in; returns what it made known."""
        assert state is None or isinstance(state, WorkloadState)  # noqa: S101 — narrows the driver's untyped state
        if isinstance(message, Tick):
            return self._tick(state, message) if state else (None, [])
        assert isinstance(message, InstanceWindow)  # noqa: S101 — the topic table admits nothing else
        return self._evidence(state or WorkloadState(workload=message.workload), message)

    def _evidence(self, state: WorkloadState, part: InstanceWindow) -> tuple[WorkloadState, list[Message]]:
        own = self._sli(
            Subject(part.workload, part.instance_id, part.size_s, part.start_ms, part.revision),
            lift(part),
            members=1,
            cause_ms=part.cause_ms,
        )
        told_ms = state.told_ms.get(part.size_s, 0)
        if part.end_ms + self.settings.late_s * 1000 < told_ms:
            return state, [own]  # too old to revise the workload; a repeat of it would carry the same id
        name = f"{part.size_s}:{part.start_ms}"
        # A first report for a window that was told as empty can only revise it.
        book = state.books.get(name) or Book(
            size_s=part.size_s, start_ms=part.start_ms, told=0 if part.end_ms <= told_ms else None
        )
        known = book.reported.get(part.instance_id)
        if known is not None and known >= part.revision:
            return state, []
        if known is not None:
            return state, [own]  # measured again after a clock step: the workload's sum keeps the first reading
        book = book.model_copy(
            update={
                "reported": book.reported | {part.instance_id: part.revision},
                "totals": plus(book.totals, lift(part)),
            }
        )
        frontier = dict(state.frontier_ms.get(part.instance_id, {}))
        frontier[part.size_s] = part.end_ms if part.revision else max(frontier.get(part.size_s, 0), part.end_ms)
        state = state.model_copy(
            update={
                "books": state.books | {name: book},
                "frontier_ms": state.frontier_ms | {part.instance_id: frontier},
                "heard_ms": max(state.heard_ms, part.cause_ms),
            }
        )
        if book.told is not None:
            state, told = self._tell(state, name, part.cause_ms)
        else:
            state, told = self._close(state, part.cause_ms)
        return state, [own, *told]

    def _tick(self, state: WorkloadState, tick: Tick) -> tuple[WorkloadState | None, list[Message]]:
        if tick.at_ms <= state.tick_ms:
            return state, []
        if not state.frontier_ms and tick.at_ms - state.heard_ms > self.settings.forget_s * 1000:
            return None, []
        leave_ms = tick.at_ms - self.settings.retire_s * 1000
        # The shortest window that an instance reports says how often one can expect to hear of it.
        staying = {
            instance: frontier
            for instance, frontier in state.frontier_ms.items()
            if max(frontier.values()) + 2000 * min(frontier) >= leave_ms
        }
        after = state.model_copy(update={"tick_ms": tick.at_ms, "frontier_ms": staying})
        after, told = self._close(after, tick.at_ms)
        after, silence = self._silence(after, tick.at_ms)
        # Most ticks find nothing due: the state is not written again for them.
        idle = not told and not silence and len(staying) == len(state.frontier_ms)
        if idle and tick.at_ms - state.tick_ms < TICK_STEP_MS:
            return state, []
        return after, [*told, *silence]

    def _close(self, state: WorkloadState, cause_ms: int) -> tuple[WorkloadState, list[Message]]:
        """Tell every open window that is complete or overdue, oldest end first."""
        ready = sorted(
            (book.end_ms, book.size_s, name)
            for name, book in state.books.items()
            if book.told is None and (self._overdue(state, book.end_ms) or self._complete(state, book))
        )
        outputs: list[Message] = []
        for _, _, name in ready:
            state, told = self._tell(state, name, cause_ms)
            outputs += told
        return (self._prune(state) if ready else state), outputs

    def _overdue(self, state: WorkloadState, end_ms: int) -> bool:
        return end_ms + self.settings.grace_s * 1000 <= state.tick_ms

    def _complete(self, state: WorkloadState, book: Book) -> bool:
        if state.tick_ms and book.end_ms > state.tick_ms + self.settings.ahead_s * 1000:
            return False
        return all(frontier.get(book.size_s, 0) >= book.end_ms for frontier in state.frontier_ms.values())

    def _silence(self, state: WorkloadState, cause_ms: int) -> tuple[WorkloadState, list[Message]]:
        """Tell windows that are overdue and for which nobody reported; after a long gap the newest of each size."""
        outputs: list[Message] = []
        for size_s in self.settings.sizes_s:
            size_ms = size_s * 1000
            end_ms = (state.tick_ms - int(self.settings.grace_s * 1000)) // size_ms * size_ms
            name = f"{size_s}:{end_ms - size_ms}"
            if size_s not in state.told_ms or end_ms <= state.told_ms[size_s] or name in state.books:
                continue
            book = Book(size_s=size_s, start_ms=end_ms - size_ms)
            state = state.model_copy(update={"books": state.books | {name: book}})
            state, told = self._tell(state, name, cause_ms)
            outputs += told
        return (self._prune(state) if outputs else state), outputs

    def _tell(self, state: WorkloadState, name: str, cause_ms: int) -> tuple[WorkloadState, list[Message]]:
        book = state.books[name]
        revision = 0 if book.told is None else book.told + 1
        expected = {i for i, frontier in state.frontier_ms.items() if frontier.get(book.size_s, 0) <= book.end_ms}
        sli = self._sli(
            Subject(state.workload, None, book.size_s, book.start_ms, revision),
            book.totals,
            members=len(expected | book.reported.keys()),
            cause_ms=cause_ms,
        )
        told_ms = max(state.told_ms.get(book.size_s, 0), book.end_ms)
        update: dict[str, object] = {
            "books": state.books | {name: book.model_copy(update={"told": revision})},
            "told_ms": state.told_ms | {book.size_s: told_ms},
        }
        alerts: list[Message] = []
        if revision == 0 and book.size_s == min(self.settings.sizes_s):
            silent = book.totals.scrapes == 0
            alerts = _turned(state, sli, silent)
            update |= {"silent": silent, "stuck": sli.stalled}
        return state.model_copy(update=update), [sli, *alerts]

    def _prune(self, state: WorkloadState) -> WorkloadState:
        keep = {
            name: book
            for name, book in state.books.items()
            if book.told is None or book.end_ms + self.settings.late_s * 1000 >= state.told_ms.get(book.size_s, 0)
        }
        return state if len(keep) == len(state.books) else state.model_copy(update={"books": keep})

    def _sli(self, subject: Subject, totals: Totals, *, members: int, cause_ms: int) -> Sli:
        objectives = self.settings.objectives.get(subject.workload, self.settings.default)
        return sli_of(subject, totals, members=members, cause_ms=cause_ms, objectives=objectives)


def _turned(state: WorkloadState, sli: Sli, silent: bool) -> list[Message]:
    """Alerts for a workload that has just gone silent or got stuck: once, until it has recovered."""
    alerts: list[Message] = []
    if silent and not state.silent:
        alerts.append(
            Alert(
                workload=state.workload,
                name="no_data",
                severity=Severity.WARNING,
                subject=state.workload,
                at_ms=sli.end_ms,
                summary=f"no readable scrape of {state.workload} in the {sli.size_s} s before this moment",
                fix="Check that the scraper runs (optiinfra status) and that the targets answer (optiinfra doctor).",
            )
        )
    if sli.stalled and not state.stuck:
        alerts.append(
            Alert(
                workload=state.workload,
                name="stalled",
                severity=Severity.CRITICAL,
                subject=state.workload,
                at_ms=sli.end_ms,
                summary=f"requests of {state.workload} run or wait, and no token came for {sli.size_s} s",
                fix="Look at the engine's log; a hung engine needs a restart.",
            )
        )
    return alerts
