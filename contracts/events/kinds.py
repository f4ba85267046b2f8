"""The kinds of action that there are, and who may begin them."""

from __future__ import annotations

from enum import StrEnum


class ActionKind(StrEnum):
    """What can be done to a workload: more or fewer replicas; other engine settings for some of its replicas, each
    restarted with them; other shares of the requests for its replicas. And at the gateway before them: so many requests
    in flight while others queue there; none longer than so many tokens; none at all for a while."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    TUNE = "tune"
    ROUTE = "route"
    QUEUE = "queue"
    CONTEXT = "context"
    BREAKER = "breaker"

    @property
    def takes_capacity(self) -> bool:
        """Whether it leaves less capacity than before, if only while a replica restarts: such actions never rest on
        missing data."""
        return self in (ActionKind.SCALE_DOWN, ActionKind.TUNE)

    @property
    def scales(self) -> bool:
        """Whether it changes how many replicas there are."""
        return self in (ActionKind.SCALE_UP, ActionKind.SCALE_DOWN)

    @property
    def gateway_setting(self) -> str:
        """What it sets at the gateway: `max_in_flight` requests, `max_context_tokens`, 0 to set none, or `breaker_s`,
        for how long all are refused; empty for what is done to replicas."""
        return _AT_GATEWAY.get(self, "")

    @property
    def part(self) -> str:
        """The part of a workload that it changes: actions on one part go one after the other."""
        if self.gateway_setting:
            return self.value
        return {ActionKind.TUNE: "engine", ActionKind.ROUTE: "router"}.get(self, "replicas")


_AT_GATEWAY = {
    ActionKind.QUEUE: "max_in_flight",
    ActionKind.CONTEXT: "max_context_tokens",
    ActionKind.BREAKER: "breaker_s",
}


class Mode(StrEnum):
    """Who acts: people on recommendations; the platform at low risk and high confidence; the platform, which tells."""

    ADVISORY = "advisory"
    SEMI_AUTONOMOUS = "semi_autonomous"
    AUTONOMOUS = "autonomous"
