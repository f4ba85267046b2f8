"""Stage `slis`: the evidence of all instances of a workload becomes its SLIs, window by window, revision by revision.

An instance's own SLIs leave as soon as its evidence arrives. The workload's window is told when every member has
reported past its end, or when a tick says that its grace is over; evidence that comes later makes a new revision.
A window for which nobody reported is told too, with coverage 0: silence is an answer. A member that says that it left
is neither waited for nor missed; one that falls silent is, for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from contracts.events import Alert, InstanceWindow, Message, Sli, Tick
from contracts.laws.ids import cause_id
from contracts.objectives import Objectives
from streams.core import alarms
from streams.core.totals import Totals, lift, plus
from streams.core.values import Subject, sli_of
from streams.core.windows import SIZES_S

RAISED_LIMIT = 100
"""Alerts remembered as raised; of more than so many the oldest would be sent again."""

TICK_STEP_MS = 10_000
"""A tick that changes nothing else is remembered once in so much event time."""


@dataclass(frozen=True)
class SliSettings:
    """Event-time limits, seconds.

    `grace_s`: how long a silent member is waited for after a window's end. `late_s`: how long a told window can be
    revised. `ahead_s`: how far past the newest tick data may close a window (a scraper's clock may be ahead), and
    `park_s` how far ahead it is still kept until its time has come.
    `retire_s`: a member that has not reported for so long has left. `forget_s`: a workload that nobody reports on for
    so long is dropped, and its silence no longer told.
    """

    sizes_s: tuple[int, ...] = SIZES_S
    grace_s: float = 10.0
    late_s: float = 60.0
    ahead_s: float = 60.0
    park_s: float = 900.0
    retire_s: float = 90.0
    forget_s: float = 900.0
    objectives: dict[str, Objectives] = field(default_factory=dict)
    default: Objectives = field(default_factory=Objectives)


class Book(BaseModel):
    """One window of the workload: who reported and their total; `told` is the last revision told, None while open.
    `left_ms` says of those that left in it how long they had been there, `before_ms` of those that joined how late."""

    model_config = ConfigDict(frozen=True)

    size_s: int
    start_ms: int
    reported: dict[str, int] = {}
    left_ms: dict[str, int] = {}
    before_ms: int = 0
    totals: Totals = Totals()
    told: int | None = None

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.size_s * 1000


class WorkloadState(BaseModel):
    """Per workload. `frontier_ms[instance][size]` is the end of the newest window that an instance reported,
    `joined_ms[instance]` the start of its first one, `told_ms[size]` the end of the newest window told. `raised` names
    the alerts that are out and not over: each is sent once, until the workload has recovered."""

    model_config = ConfigDict(frozen=True)

    workload: str
    tick_ms: int = 0
    heard_ms: int = 0
    frontier_ms: dict[str, dict[int, int]] = {}
    joined_ms: dict[str, int] = {}
    told_ms: dict[int, int] = {}
    books: dict[str, Book] = {}
    raised: tuple[str, ...] = ()


class SliFold:
    """The fold, a class so that its parts share the settings; it holds no state of its own."""

    def __init__(self, settings: SliSettings) -> None:
        self.settings = settings

    def advance(self, state: WorkloadState | None, message: Message) -> tuple[WorkloadState | None, list[Message]]:
        """Fold one message in; returns what it made known."""
        if isinstance(message, Tick):
            return self._tick(state, message) if state else (None, [])
        assert isinstance(message, InstanceWindow)  # noqa: S101 — the topic table admits nothing else
        return self._evidence(state or WorkloadState(workload=message.workload), message)

    def _evidence(self, state: WorkloadState, part: InstanceWindow) -> tuple[WorkloadState, list[Message]]:
        if part.left:
            state = _without(state, part)
        own = self._sli(
            Subject(part.workload, part.instance_id, part.size_s, part.start_ms, part.revision),
            lift(part),
            members=int(not part.left),
            left_ms=part.there_ms if part.left else 0,
            cause_ms=part.cause_ms,
        )
        told_ms = state.told_ms.get(part.size_s, 0)
        if part.end_ms + self.settings.late_s * 1000 < told_ms:
            return state, [own]  # too old to revise the workload; a repeat of it would carry the same id
        if state.tick_ms and part.end_ms > state.tick_ms + self.settings.park_s * 1000:
            state, alerts = _raise(state, alarms.clock_ahead(part, state.tick_ms), True)
            return state, [own, *alerts]
        name = f"{part.size_s}:{part.start_ms}"
        # A first report for a window that was told as empty can only revise it.
        book = state.books.get(name) or Book(
            size_s=part.size_s, start_ms=part.start_ms, told=0 if part.end_ms <= told_ms else None
        )
        known = book.reported.get(part.instance_id)
        if known is not None and known >= part.revision:
            return state, []
        if known is not None and part.instance_id not in book.left_ms:
            return state, [own]  # measured again after a clock step: the workload's sum keeps the first reading
        state = state.model_copy(
            update={
                "books": state.books | {name: _with(book, part, joins=_joins(state, part))},
                "heard_ms": max(state.heard_ms, part.cause_ms),
            }
        )
        if not part.left:
            frontier = dict(state.frontier_ms.get(part.instance_id, {}))
            frontier[part.size_s] = part.end_ms if part.revision else max(frontier.get(part.size_s, 0), part.end_ms)
            state = state.model_copy(
                update={
                    "frontier_ms": state.frontier_ms | {part.instance_id: frontier},
                    "joined_ms": {part.instance_id: part.start_ms} | state.joined_ms,
                }
            )
        told: list[Message] = []
        if book.told is not None:
            state, told = self._tell(state, name, part.cause_ms)
        state, closed = self._close(state, part.cause_ms)
        return state, [own, *told, *closed]

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
        joined = {instance: state.joined_ms[instance] for instance in staying}
        after = state.model_copy(update={"tick_ms": tick.at_ms, "frontier_ms": staying, "joined_ms": joined})
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
        # Where everybody has left nobody's report says that the window is over: its time does.
        # A member without a report of this size either has just joined, or is scraped too rarely for it.
        return bool(state.frontier_ms) and all(
            frontier[book.size_s] >= book.end_ms
            if book.size_s in frontier
            else state.joined_ms[instance] + book.size_s * 1000 <= book.start_ms
            for instance, frontier in state.frontier_ms.items()
        )

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
        # Whoever was here when the window began ought to have reported it.
        expected = {
            instance
            for instance, frontier in state.frontier_ms.items()
            if state.joined_ms[instance] <= book.start_ms and book.size_s in frontier
        }
        evidence = cause_id(*(f"{instance}:{book.reported[instance]}" for instance in sorted(book.reported)))
        sli = self._sli(
            Subject(state.workload, None, book.size_s, book.start_ms, revision, evidence),
            book.totals,
            members=len(expected | book.reported.keys() - book.left_ms.keys()),
            left_ms=sum(book.left_ms.values()) - book.before_ms,
            cause_ms=cause_ms,
        )
        told_ms = max(state.told_ms.get(book.size_s, 0), book.end_ms)
        state = state.model_copy(
            update={
                "books": state.books | {name: book.model_copy(update={"told": revision})},
                "told_ms": state.told_ms | {book.size_s: told_ms},
            }
        )
        outputs: list[Message] = [sli]
        if revision == 0 and book.size_s == min(self.settings.sizes_s):
            for alert, holds in alarms.of_window(sli, book.totals, self._objectives(state.workload)):
                state, alerts = _raise(state, alert, holds)
                outputs += alerts
        return state, outputs

    def _prune(self, state: WorkloadState) -> WorkloadState:
        keep = {
            name: book
            for name, book in state.books.items()
            if book.told is None or book.end_ms + self.settings.late_s * 1000 >= state.told_ms.get(book.size_s, 0)
        }
        return state if len(keep) == len(state.books) else state.model_copy(update={"books": keep})

    def _sli(self, subject: Subject, totals: Totals, *, members: int, left_ms: int, cause_ms: int) -> Sli:
        objectives = self._objectives(subject.workload)
        return sli_of(subject, totals, members=members, left_ms=left_ms, cause_ms=cause_ms, objectives=objectives)

    def _objectives(self, workload: str) -> Objectives:
        return self.settings.objectives.get(workload, self.settings.default)


def _joins(state: WorkloadState, part: InstanceWindow) -> bool:
    """Whether it is new, and others are not: where all are, it is the observer who came late, and coverage lacks it."""
    known_ms = state.joined_ms.get(part.instance_id, part.start_ms)
    return not part.left and part.start_ms <= known_ms and any(ms < part.start_ms for ms in state.joined_ms.values())


def _with(book: Book, part: InstanceWindow, *, joins: bool) -> Book:
    """The book with one more report. Who comes back to a window that it left is a member of it again."""
    left_ms = {name: there_ms for name, there_ms in book.left_ms.items() if name != part.instance_id}
    return book.model_copy(
        update={
            "reported": book.reported | {part.instance_id: part.revision},
            "left_ms": left_ms | ({part.instance_id: part.there_ms} if part.left else {}),
            "before_ms": book.before_ms + (book.size_s * 1000 - part.covered_ms if joins else 0),
            "totals": plus(book.totals, lift(part)),
        }
    )


def _without(state: WorkloadState, part: InstanceWindow) -> WorkloadState:
    """The workload without the member that left, unless it has reported since and this is a repeat."""
    frontier = state.frontier_ms.get(part.instance_id)
    if frontier is None or max(frontier.values()) > part.cause_ms:
        return state
    staying = {name: ends for name, ends in state.frontier_ms.items() if name != part.instance_id}
    return state.model_copy(
        update={"frontier_ms": staying, "joined_ms": {name: state.joined_ms[name] for name in staying}}
    )


def _raise(state: WorkloadState, alert: Alert, holds: bool) -> tuple[WorkloadState, list[Message]]:
    """Send an alert when its condition begins to hold, and take note when it is over."""
    name = f"{alert.name}:{alert.subject}"
    if holds == (name in state.raised):
        return state, []
    others = tuple(each for each in state.raised if each != name)
    if not holds:
        return state.model_copy(update={"raised": others}), []
    return state.model_copy(update={"raised": (*others, name)[-RAISED_LIMIT:]}), [alert]
