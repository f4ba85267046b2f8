"""The ledger's values: how far an action has come, and the switches that people throw. Kept outside any process."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from contracts.events.acting import Action, EndState, Plan
from contracts.events.kinds import ActionKind, Mode
from contracts.laws.ids import cause_id


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Phase(StrEnum):
    """Where an action stands.

        recorded ─► planned ─► applying ─► trial ─► finishing ─► verifying ─► ended
                                  └──────────┴─────────┴─────────────┴─► undoing ─┘

    `applying` applies the steps that can be taken back and waits until they are done; in `trial` the guards must hold;
    `finishing` applies the final ones; `verifying` waits for the effect. What a final step has done has no way back
    save a new action: an undo in `finishing` is of what no final step was ordered for, one in `verifying` of capacity
    that was added.
    """

    RECORDED = "recorded"
    PLANNED = "planned"
    APPLYING = "applying"
    TRIAL = "trial"
    FINISHING = "finishing"
    VERIFYING = "verifying"
    UNDOING = "undoing"
    ENDED = "ended"


class Mark(StrEnum):
    """What is known of one step. `intended` is written before the controller is called: after a crash it means that
    nobody knows, and the controller is asked (`inspect`) before anything is done again."""

    UNTOUCHED = "untouched"
    INTENDED = "intended"
    APPLIED = "applied"
    DONE = "done"
    UNDO_INTENDED = "undo_intended"
    UNDO_APPLIED = "undo_applied"
    UNDONE = "undone"


class ActionRecord(_Part):
    """One action in the ledger. `version` grows by one with each change: a writer who has not seen the newest is
    refused. Event times in ms; `marks` has one entry a step of the plan."""

    action: Action
    phase: Phase = Phase.RECORDED
    version: int = Field(default=0, ge=0)
    plan: Plan | None = None
    marks: tuple[Mark, ...] = ()
    recorded_ms: int
    phase_since_ms: int
    began_ms: int | None = None
    applied_ms: int | None = Field(default=None, description="when the newest step was applied: deadlines run from it")
    held_since_ms: int | None = Field(default=None, description="since when all guards have held without a break")
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    end_state: EndState | None = None
    reasons: tuple[str, ...] = ()
    detail: str = Field(default="", max_length=2000)
    expect_met: bool | None = None
    goal_met: bool | None = None
    ended_ms: int | None = None

    @property
    def followed(self) -> bool:
        """Whether it is only looked after: a scale-up of which the controller has taken every order, and nothing is to
        be taken back. It gives no more orders, so that its target is free."""
        adds = self.action.spec.kind is ActionKind.SCALE_UP and self.phase in (Phase.APPLYING, Phase.VERIFYING)
        return adds and bool(self.marks) and all(mark in (Mark.APPLIED, Mark.DONE) for mark in self.marks)

    def token(self, step: int, *, undo: bool = False) -> str:
        """The idempotency token of a step or of its undo: the same after any crash."""
        return step_token(self.action.id, step, undo=undo)


def step_token(action_id: str, step: int, *, undo: bool = False) -> str:
    """The token of step number `step`, from 0, of an action."""
    return cause_id("step", action_id, step, "undo" if undo else "do")


class Switches(_Part):
    """What people have set for one workload, with the fleet's kill switch counted in. `mode` None: as configured."""

    killed: bool = False
    killed_why: str = ""
    mode: Mode | None = None
    mode_at_wall_ms: int = 0


class ClaimLimits(_Part):
    """What the ledger checks when an action is to begin, for the whole fleet in one script; wall seconds."""

    in_flight: int = Field(default=4, ge=1, description="actions in the whole fleet that hold a target")
    at_gateways: int | None = Field(
        default=None, ge=1, description="of those, at gateways; None: as many as there may be"
    )
    per_hour: int = Field(default=60, ge=1, description="actions begun in the last hour of wall time, whole fleet")
    lease_s: float = Field(default=10.0, gt=0)
