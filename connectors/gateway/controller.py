"""The controller of a gateway: what an action sets there, under tokens and fences, though a gateway knows neither.

Both stand in the note that the gateway keeps beside its limits, and a write counts only on the version that was read:
so an order is given once however often it is repeated, one that comes late changes nothing, and a version that the note
does not tell of is a change by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import Action, Plan, PlanStep, StepKind
from contracts.laws.gateway_limits import looser
from contracts.ports import Controller, Gateway, GatewayState, Observation, StepReport, StepState

TOKENS_KEPT = 50
"""So many actions of a workload are nowhere near under way at once."""
TRIES = 3
"""Writes that others came before; each time it is looked at anew."""
ITSELF = "gateway"
"""The name under which an observation has the limits of the gateway."""


class _Note(BaseModel):
    """What was left at `version`: the newest tokens, the highest fence by limit, how often others had changed it."""

    model_config = ConfigDict(frozen=True)

    version: int = 0
    tokens: tuple[str, ...] = ()
    fences: dict[str, int] = {}
    by_hand: int = 0


Made = Callable[[GatewayState], dict[str, int]]
"""The limits to write, from what stands."""


class GatewayController(Controller):
    """Drives the gateway of one workload. `clock_ms`: the time by which breakers are open."""

    honours_tokens = True

    def __init__(self, gateway: Gateway, workload: str, clock_ms: Callable[[], int]) -> None:
        self._gateway, self._workload, self._clock_ms = gateway, workload, clock_ms

    async def observe(self, workload: str) -> Observation:
        state = await self._gateway.read(self._workload)
        limits = {name: float(value) for name, value in state.limits.items()}
        by_hand = _note(state).by_hand
        return Observation(at_ms=self._clock_ms(), serving=(), manual_changes=by_hand, settings={ITSELF: limits})

    async def plan(self, action: Action, seen: Observation) -> Plan:
        """One step, even where the limits are so already: then it is verified, and nothing changes. A limit is loosened
        only by an action that restores."""
        wanted = action.gateway_limits
        if not wanted:
            what = f"a gateway does no {action.spec.kind}"
            raise ConfigError(what, where=action.target, fix="Give it to the fleet's controller.")
        before = {name: seen.settings[ITSELF][name] for name in wanted}
        for name, value in wanted.items():
            if looser(name, value, before[name]) and not action.spec.restores:
                what = f"needless: {name} stands at {before[name]:.0f} already, which is tighter than {value:.0f}"
                raise ConfigError(what, where=action.target, fix="Nothing needs to be done.")
        step = PlanStep(kind=StepKind.LIMIT, settings=wanted, before=before)
        return Plan(steps=(step,), replicas_before=0, manual_changes=seen.manual_changes)

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        """Empty when the gateway answers: what it would refuse is told when it is ordered."""
        await self._gateway.read(self._workload)
        return ""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        """Set them, where those that the plan found still stand; else somebody has changed them meanwhile. Where they
        stand as ordered this order came, and its note was lost: it is noted anew."""

        def forth(state: GatewayState) -> dict[str, int]:
            wanted = _whole(step.settings)
            if all(state.limits[name] == value for name, value in wanted.items()):
                return wanted
            for name, value in _whole(step.before).items():
                if state.limits[name] != value:
                    what = f"changed meanwhile: {name} is {state.limits[name]}, and was {value} when it was planned"
                    raise ConfigError(what, where=f"gateway of {self._workload}", fix="What was set by hand stays.")
            return wanted

        await self._write(step, (token,), fence, forth)

    async def inspect(self, token: str) -> StepReport:
        found = token in _note(await self._gateway.read(self._workload)).tokens
        return StepReport(StepState.DONE, ITSELF, "is set") if found else StepReport(StepState.UNKNOWN)

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        """Set back what was set under `done_token`, unless somebody has set something else meanwhile. Where that order
        never came its token is kept all the same, so that it changes nothing when it comes."""

        def back(state: GatewayState) -> dict[str, int]:
            before, ours = _whole(step.before), _whole(step.settings)
            return {name: before[name] for name, value in ours.items() if state.limits[name] == value}

        await self._write(step, (done_token, token), fence, back)

    async def _write(self, step: PlanStep, tokens: tuple[str, ...], fence: int, made: Made) -> None:
        """Write under the last of `tokens`, unless that was done already."""
        for _ in range(TRIES):
            state = await self._gateway.read(self._workload)
            note = _note(state)
            highest = max((note.fences.get(name, 0) for name in step.settings), default=0)
            if fence < highest:
                what = f"fence {fence} is older than {highest}"
                raise Conflict(what, where=f"gateway of {self._workload}", fix="Somebody else holds the lease: stop.")
            if tokens[-1] in note.tokens:
                return
            limits = made(state)
            left = _Note(
                version=state.version + 1,
                tokens=(*(each for each in note.tokens if each not in tokens), *tokens)[-TOKENS_KEPT:],
                fences=note.fences | dict.fromkeys(step.settings, fence),
                by_hand=note.by_hand,
            )
            try:
                await self._gateway.write(self._workload, limits, if_version=state.version, note=left.model_dump_json())
            except Conflict:
                continue  # somebody wrote in between: perhaps an earlier try of this very order
            return
        what = f"others changed it {TRIES} times in between"
        raise Unavailable(what, where=f"gateway of {self._workload}", fix="It is asked again.")


def _note(state: GatewayState) -> _Note:
    """What was left there, with every version since counted as a change by hand. Text of others is no note: then all
    that was ever changed was changed by hand. A version from before the note is of a count that was begun anew: that is
    a change by hand too."""
    try:
        left = _Note.model_validate_json(state.note)
    except ValidationError:
        left = _Note()
    since = state.version - left.version if state.version >= left.version else state.version + 1
    return left.model_copy(update={"by_hand": left.by_hand + since})


def _whole(limits: Mapping[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in limits.items()}
