"""The acting half, process by process: rules, reviewer, executor, delivery of alerts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING

import structlog

from contracts.clock import EventClock
from contracts.errors import OptiInfraError, Unavailable
from contracts.events import Action, Alert, Message, Outcome, Severity
from contracts.ledger import ClaimLimits
from contracts.ports import Handler, Publisher, Reviewer
from contracts.topics import ACTIONS, ALERTS, AUDIT, CANDIDATES, CONTROLS, OUTCOMES, SLIS, TICKS, Topic, group_of
from optiinfra.orders import ChildOrders, Ready
from optiinfra.settings import ReviewSettings
from optiinfra.statedir import StateDir
from optiinfra.wiring.common import connected, endpoint, make_clock, settings_of, worker_name
from optiinfra.wiring.controllers import acting_controllers
from optiinfra.wiring.stages import engine_seat, evidence_age_s, make_book, rules_stage

if TYPE_CHECKING:
    from rules.book import RuleBook

RELOAD_EVERY_S = 2.0
"""Wall seconds between two looks at the files of rules."""

REVIEWS_AT_ONCE = 4
ALERTS_AT_ONCE = 4


async def rules(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The stage of rules with its engine, and files that are read again when they change."""
    from streams.faust_driver import run_stage

    settings, clock, bootstrap = settings_of(orders), make_clock(orders), endpoint(orders, "bootstrap")
    book = make_book(settings)
    async with connected(bootstrap, "rules") as publisher:
        loop = asyncio.get_running_loop()

        def trouble(name: str, detail: str) -> None:
            alert = _rules_alert(
                name, detail, clock, "The reference evaluator answers meanwhile; see logs/rules.jsonl."
            )
            loop.call_soon_threadsafe(_tell, publisher, alert)

        seat = engine_seat(settings.rule_engine, trouble)
        ready({})
        try:
            stage = rules_stage(orders, book, seat)
            work = run_stage(
                stage,
                bootstrap=bootstrap,
                embedded=settings.kafka is None,
                clock=clock,
                worker_name=worker_name("rules", orders.state_dir),
                stop=stop,
            )
            await _together(stop, work, _reload(book, publisher, clock))
        finally:
            seat.close()


RULES_STAY = "the rules that were in force stay so, since new ones have mistakes"


async def _reload(book: RuleBook, publisher: Publisher, clock: EventClock) -> None:
    """Take over files that have changed; ones with errors are refused as a whole, and the rules in force stay."""
    while True:
        await asyncio.sleep(RELOAD_EVERY_S)
        error = await asyncio.to_thread(book.reload_if_changed)
        if error is not None:
            fix = "Correct the file (`optiinfra rules check`)."
            _tell(publisher, _rules_alert("rules_refused", f"{RULES_STAY}: {error}", clock, fix))


def _rules_alert(name: str, detail: str, clock: EventClock, fix: str) -> Alert:
    return Alert(
        name=name,
        severity=Severity.WARNING,
        subject="rules",
        at_ms=clock.now_ms(),
        summary=detail[:2000],
        fix=fix,
    )


def _tell(publisher: Publisher, alert: Alert) -> None:
    """Send an alert beside the work in hand; the log has it too."""
    structlog.get_logger("rules").warning("alert", name=alert.name, summary=alert.summary)

    async def send() -> None:
        with contextlib.suppress(Unavailable):
            await publisher.publish(alert)

    task = asyncio.get_running_loop().create_task(send())
    _sending.add(task)
    task.add_done_callback(_sending.discard)


_sending: set[asyncio.Task[None]] = set()


async def reviewer(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The reviewer that the settings choose."""
    from agents.reviewer.handler import reviewing

    async with made_reviewer(settings_of(orders).review) as made:
        handler = reviewing(made, clock_s=time.monotonic)
        await _handling("reviewer", (CANDIDATES,), handler, orders, stop, ready, concurrency=REVIEWS_AT_ONCE)


@contextlib.asynccontextmanager
async def made_reviewer(wanted: ReviewSettings) -> AsyncIterator[Reviewer]:
    """The LLM reviewer where one is wanted, else the deterministic one. Raises Unavailable for a missing extra."""
    if not wanted.wants_llm:
        from agents.reviewer.deterministic import DeterministicReviewer

        yield DeterministicReviewer()
        return
    from agents.reviewer.llm import LlmOptions, LlmReviewer

    options = LlmOptions(
        model=wanted.model,
        api_key=wanted.api_key,
        base_url=wanted.base_url,
        call_timeout_s=wanted.timeout_s,
        review_timeout_s=3 * wanted.timeout_s,
        usd_per_million_in=wanted.usd_per_million_in,
        usd_per_million_out=wanted.usd_per_million_out,
    )
    async with LlmReviewer(options) as made:
        yield made


async def alerts(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """Delivery of alerts: a line in the log, and a signed webhook where one is set."""
    from dashboards.alerts import AlertOptions, delivering

    wanted = settings_of(orders).alerts

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    options = AlertOptions(webhook=wanted.webhook, secret=wanted.secret, min_severity=wanted.min_severity)
    async with delivering(options, say) as handler:
        # A receiver that is away holds up one alert, not those behind it.
        await _handling("alerts", (ALERTS,), handler, orders, stop, ready, concurrency=ALERTS_AT_ONCE)


async def executor(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The executor with its ledger, the controller of the simulated fleet, whose changes by hand it notices, and the
    gateways."""
    from agents.executor import Executor
    from agents.ledger import RedisLedger
    from connectors.gateway.watching import follow_gateways
    from connectors.twin.notices import follow_notices
    from streams.handler import run_handler

    settings, clock, bootstrap = settings_of(orders), make_clock(orders), endpoint(orders, "bootstrap")
    twin_url, state = "" if settings.targets else endpoint(orders, "twin_url"), StateDir(orders.state_dir)
    limits = ClaimLimits(in_flight=settings.fleet.actions_in_flight, per_hour=settings.fleet.actions_per_hour)
    async with (
        RedisLedger(endpoint(orders, "redis_url")) as ledger,
        acting_controllers(settings, twin_url, clock) as (controllers, gateways),
        connected(bootstrap, "executor") as publisher,
    ):
        made = Executor(
            ledger,
            controllers,
            publisher,
            clock,
            owner=worker_name("executor", orders.state_dir),
            limits=limits,
            max_age_s=evidence_age_s(orders),
            expected=state.acted() or await asyncio.to_thread(_acted_before, bootstrap),
            history=lambda: asyncio.to_thread(_history, bootstrap),
        )
        ready({})
        worker = worker_name("executor", orders.state_dir)

        async def handle(message: Message) -> Sequence[Message]:
            if isinstance(message, Action):  # an embedded broker forgets with its process that there were any
                state.note_acted(message.id)
            return await made.handle(message)

        def reading(name: str, inputs: tuple[Topic, ...], worker: str) -> Awaitable[None]:
            return run_handler(
                name,
                inputs,
                handle,
                bootstrap=bootstrap,
                embedded=settings.kafka is None,
                publisher=publisher,
                clock=clock,
                worker=worker,
                stop=stop,
            )

        await _together(
            stop,
            reading("executor", (ACTIONS, CONTROLS), worker),
            # Actions are shared out among executors, and any of them may carry on what another began: so each sees all.
            reading(f"executor-eyes-{worker}", (SLIS, TICKS), f"{worker}.eyes"),
            made.run(stop),
            follow_gateways(gateways, publisher, clock, stop),
            *((follow_notices(twin_url, publisher, clock, stop),) if twin_url else ()),
        )


def _acted_before(bootstrap: str) -> bool:
    """Whether any action was ever handled here: then a ledger ought to hold it.

    An executor that dies at its first action may not have committed it, and commits expire. But a ledger wrote what
    stands on the audit topic, and an outcome is told of what it holds.
    """
    from streams.brokers import admin

    if any(any(topic.ends) for topic in admin.list_topics(bootstrap) if topic.name in (AUDIT.name, OUTCOMES.name)):
        return True
    marks = admin.group_lag(bootstrap, group_of("executor"), (ACTIONS.name,))
    return any(position > 0 for position, _ in marks.values())


def _history(bootstrap: str) -> tuple[Sequence[Action], Sequence[Outcome]]:
    """Every action and outcome that the broker still holds."""
    from streams.brokers import admin

    def read(topic: Topic) -> list[object]:
        return [seen.message for seen in admin.tail(bootstrap, topic.name, from_beginning=True, follow=False)]

    actions = [each for each in read(ACTIONS) if isinstance(each, Action)]
    outcomes = [each for each in read(OUTCOMES) if isinstance(each, Outcome)]
    return actions, outcomes


async def _handling(
    name: str,
    inputs: tuple[Topic, ...],
    handler: Handler,
    orders: ChildOrders,
    stop: asyncio.Event,
    ready: Ready,
    concurrency: int = 1,
) -> None:
    """A worker that is a handler and nothing more."""
    from streams.handler import run_handler

    settings, bootstrap = settings_of(orders), endpoint(orders, "bootstrap")
    async with connected(bootstrap, name) as publisher:
        ready({})
        await run_handler(
            name,
            inputs,
            handler,
            bootstrap=bootstrap,
            embedded=settings.kafka is None,
            publisher=publisher,
            clock=make_clock(orders),
            worker=worker_name(name, orders.state_dir),
            stop=stop,
            concurrency=concurrency,
        )


async def _together(stop: asyncio.Event, first: Awaitable[None], *others: Awaitable[None]) -> None:
    """Run the first until it ends, which it does once `stop` is set; the others may not end before it."""
    beside = [asyncio.ensure_future(other) for other in others]
    leading = asyncio.ensure_future(first)
    try:
        await asyncio.wait({leading, *beside}, return_when=asyncio.FIRST_COMPLETED)
        for task in (leading, *beside):
            if task.done():
                task.result()
        if not stop.is_set() and not leading.done():
            raise OptiInfraError("work beside a worker ended before it", fix="See its log.")
        await leading
    finally:
        for task in (leading, *beside):
            task.cancel()
        await asyncio.gather(leading, *beside, return_exceptions=True)
