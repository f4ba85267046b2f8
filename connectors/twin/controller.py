"""The twin's controller: orders on simulated replicas over HTTP, as one would through a cloud's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from connectors.session import HttpSession
from contracts.errors import ConfigError, Conflict
from contracts.events import Action, ActionKind, Plan, PlanStep, StepKind
from contracts.ports import Controller, Observation, StepReport

_MAX_STEPS = 100
"""The steps that a Plan may have."""

_MOST_BYTES = 16 * 1024 * 1024
"""More than an observation of the largest fleet has."""

T = TypeVar("T")


class _Check(BaseModel):
    problem: str


class TwinController(HttpSession, Controller):
    """A session with the twin's control port; an async context manager. `timeout_s` is wall seconds a request.

    Refused connections, late or torn answers and HTTP 5xx are Unavailable: an order may or may not have arrived. HTTP
    409 is Conflict, an old fence; any other refusal is ConfigError, and nothing was done.
    """

    honours_tokens = True

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no address", where="twin controller", fix="Give http://host:port.")
        fix = "Ask again: a twin that died is started anew."
        super().__init__(url.rstrip("/"), name="twin", timeout_s=timeout_s, most_bytes=_MOST_BYTES, fix=fix)

    async def observe(self, workload: str) -> Observation:
        return await self._ask("GET", f"/actuation/{_part(workload)}", Observation)

    async def plan(self, action: Action, seen: Observation) -> Plan:
        return plan(action, seen)

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        """Empty when the step could be done now; else why not, an unknown workload among it."""
        body = _body(step)
        return (await self._ask("POST", f"/actuation/{_part(workload)}/check", _Check, body)).problem

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        body = {**_body(step), "token": token, "fence": fence}
        await self._ask("POST", f"/actuation/{_part(workload)}/apply", StepReport, body)

    async def inspect(self, token: str) -> StepReport:
        return await self._ask("GET", f"/actuation/tokens/{_part(token)}", StepReport)

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        """Take back what was done under `done_token`; an order that never arrived is called off."""
        body = {**_body(step), "token": token, "fence": fence, "done_token": done_token}
        await self._ask("POST", f"/actuation/{_part(workload)}/undo", StepReport, body)

    async def _ask(self, method: str, path: str, answer: type[T], body: dict[str, Any] | None = None) -> T:
        """One request; its answer as `answer`."""
        status, raw = await self.exchange(method, path, body)
        if status >= 500:
            raise self.away(f"HTTP {status}: {_refusal(raw)[0]}")
        if status >= 400:
            message, fix = _refusal(raw)
            raise (Conflict if status == 409 else ConfigError)(message, where="twin", fix=fix)
        try:
            return TypeAdapter(answer).validate_json(raw)
        except ValidationError as error:
            raise self.away(f"it answered with something else: {error.errors()[0]['msg']}") from error


def plan(action: Action, seen: Observation) -> Plan:
    """The steps of an action on the fleet that was seen.

    Replicas are given up that hold the fewest requests, of equal ones the newest: all are drained, which can be taken
    back, before the first is removed. Of those to be set anew, those that have the settings already, or do not serve,
    are passed over. Where all that serve have the same settings after it, or new ones start with those that are taken
    back, these get them too, as the last step. Raises ConfigError when none would be left in service, nothing is to be
    done, or it takes more steps than a plan may have: none of them is left out unsaid.
    """
    count, kind = action.spec.replicas, action.spec.kind
    serving = seen.serving
    if kind is ActionKind.SCALE_UP:
        steps = [PlanStep(kind=StepKind.ADD)] * count
    elif kind is ActionKind.TUNE:
        steps = _retunes(action, seen)
    elif kind is ActionKind.ROUTE:
        if away := action.spec.by_replica.keys() - set(serving):
            what = f"shares for {', '.join(sorted(away))}, which do not serve"
            raise ConfigError(what, where=action.target, fix="Wait for shares of the replicas that there are.")
        steps = [PlanStep(kind=StepKind.WEIGH, by_replica=action.spec.by_replica)]
    else:
        if count >= len(serving):
            what = f"of {len(serving)} replicas in service, {count} cannot be given back: none would be left"
            raise ConfigError(what, where=action.target, fix="Keep at least one replica.")
        order = sorted(range(len(serving)), key=lambda place: (seen.in_flight.get(serving[place], 0), -place))
        chosen = [serving[place] for place in order[:count]]
        steps = [PlanStep(kind=StepKind.DRAIN, subject=name) for name in chosen]
        steps += [PlanStep(kind=StepKind.REMOVE, subject=name, final=True) for name in chosen]
    if len(steps) > _MAX_STEPS:
        what = f"{count} replicas take {len(steps)} steps, more than {_MAX_STEPS}"
        raise ConfigError(what, where=action.target, fix="Ask for fewer replicas at once.")
    return Plan(steps=tuple(steps), replicas_before=len(serving), manual_changes=seen.manual_changes)


def _retunes(action: Action, seen: Observation) -> list[PlanStep]:
    settings = action.spec.settings
    if len(seen.serving) < 2:
        what = "a replica that is set anew restarts: none would be left in service"
        raise ConfigError(what, where=action.target, fix="Add a replica first.")
    named = [name for name in seen.serving if name in action.spec.by_replica]
    chosen = [name for name in named if not _has(seen.settings.get(name, {}), settings)]
    whole = all(name in chosen or _has(seen.settings.get(name, {}), settings) for name in seen.serving)
    launched = seen.launched_with
    bad = [{flag: seen.settings.get(name, {}).get(flag, 0.0) for flag in settings} for name in chosen]
    back = launched is not None and action.spec.restores and any(_has(launched, each) for each in bad)
    new = launched is not None and not _has(launched, settings) and (whole or back)
    if not chosen and not (named and new):
        why = "have these settings already" if named else "do not serve"
        what = f"{', '.join(named or action.spec.by_replica)} {why}"
        raise ConfigError(what, where=action.target, fix="Wait for the next finding.")
    subjects = [*chosen, ""] if new else chosen
    return [PlanStep(kind=StepKind.RETUNE, subject=name, settings=settings) for name in subjects]


def _has(flags: Mapping[str, float], settings: Mapping[str, float]) -> bool:
    """Whether these flags are so already; one that is not told is 0, as tiers are that there are none of."""
    return all(flags.get(name, 0.0) == value for name, value in settings.items())


def _body(step: PlanStep) -> dict[str, Any]:
    """What an order says of its step."""
    return step.model_dump(mode="json", include={"kind", "subject", "settings", "by_replica"})


def _part(name: str) -> str:
    return quote(name, safe="")


def _refusal(raw: bytes) -> tuple[str, str]:
    """What a refusal says, and its remedy; the first bytes of an answer that is not ours."""
    try:
        told = TypeAdapter(dict[str, dict[str, str]]).validate_json(raw)["error"]
        return told["message"], told["fix"]
    except (ValidationError, KeyError):
        return raw[:200].decode("utf-8", "replace"), "Look at the twin's log."
