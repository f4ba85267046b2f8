"""Delivers alerts to people: one structured line each, and a signed webhook where one is set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from contracts.errors import BadMessage, Reason
from contracts.events import Alert, Message, Severity
from contracts.ports import Handler
from dashboards.core import Storm, body_of, heard
from dashboards.webhook import Patience, Undelivered, WebhookSender


@dataclass(frozen=True)
class AlertOptions:
    """Who hears what: alerts of at least `min_severity`, one of many alike within `group_s` event seconds, and also at
    the URL `webhook` where there is one, signed with `secret`."""

    webhook: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    min_severity: Severity = Severity.WARNING
    group_s: float = 60.0
    patience: Patience = field(default_factory=Patience)


@asynccontextmanager
async def delivering(
    options: AlertOptions, say: Callable[[str], object], *, wall_s: Callable[[], float] = time.time
) -> AsyncIterator[Handler]:
    """The handler of topic `alerts`, with its connections open as long as the context is.

    `say` takes one line of JSON without its end; `wall_s` is wall time in seconds since 1970. The handler raises
    BadMessage(UNDELIVERED) for an alert that the webhook did not take, after the line was said. Raises ConfigError for
    a webhook that cannot be used; one without a secret is one.
    """
    async with AsyncExitStack() as stack:
        sender: WebhookSender | None = None
        if options.webhook is not None:
            made = WebhookSender(options.webhook, options.secret or "", options.patience, wall_s)
            sender = await stack.enter_async_context(made)
        storm = Storm(options.group_s)

        async def handle(message: Message) -> Sequence[Message]:
            if not isinstance(message, Alert) or not heard(message, options.min_severity) or storm.held_back(message):
                return []
            more = storm.more(message)
            body = body_of(message, more)
            with suppress(OSError, ValueError):  # a closed terminal must not keep the webhook from going out
                say(body)
            try:
                if sender is not None:
                    await sender.send(message.id, body)
            except Undelivered as error:
                # Told all the same: else a receiver that is away would cost the full time for each of many alike.
                storm.told(message, said=0)
                raise BadMessage(Reason.UNDELIVERED, str(error)) from None
            storm.told(message, said=more)
            return []

        yield handle
