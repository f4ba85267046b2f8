"""Orders that a controller gives the twin, what becomes of them, and the ways in which the twin can be told to fail."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ConfigError
from contracts.events import StepKind
from contracts.ports import StepReport, StepState


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CannotDo(ConfigError):
    """An order that is understood, and that the fleet as it stands does not permit (HTTP 422)."""


class Faults(_Value):
    """How orders go wrong; body of `PUT /actuation/faults`, which replaces all of them. They end with the process.

    `delay_s`: orders take effect so many event seconds after they were taken. `answer_delay_s`: answers to orders come
    so many wall seconds late. `fail`: the next orders are answered 500 before anything is done. `drop_answer`: the next
    orders are taken, and the connection is cut instead of an answer. `lie`: orders are done at once, and nothing
    happens. `capacity`: no more replicas than this in a workload. `lose`: the next added replicas die while starting.
    """

    delay_s: float = Field(default=0.0, ge=0, le=86_400)
    answer_delay_s: float = Field(default=0.0, ge=0, le=600)
    fail: int = Field(default=0, ge=0)
    drop_answer: int = Field(default=0, ge=0)
    lie: bool = False
    capacity: int | None = Field(default=None, ge=0)
    lose: int = Field(default=0, ge=0)


class Told(_Value):
    """What an order says beside its kind and replica: engine settings by flag (`retune`), shares of requests by replica
    (`weigh`)."""

    settings: dict[str, float] = {}
    by_replica: dict[str, float] = {}


NOTHING = Told()


class Job(_Value):
    """One order under its token. `undoes` is the token whose work it takes back, empty for an order to do something.

    `due_ms` is the event time at which it takes effect, None once it has. `effects` counts how often it changed the
    fleet: never more than once. `before` is what a retune or a weigh found,
    once it took effect: what its undo goes back to.
    """

    workload: str
    kind: StepKind
    subject: str = ""
    undoes: str = ""
    told: Told = NOTHING
    before: dict[str, float] = {}
    state: StepState = StepState.RUNNING
    due_ms: float | None = None
    effects: int = 0
    detail: str = ""

    def same_order(self, other: Job) -> bool:
        """Whether both ask for the same. The replica that an `add` or its undo is about is found out later."""
        if (self.workload, self.kind, self.undoes) != (other.workload, other.kind, other.undoes):
            return False
        if self.told != other.told:
            return False
        return self.kind is StepKind.ADD or self.subject == other.subject

    def done(self, detail: str, *, effects: int = 0) -> Job:
        """The same job at its end, with `effects` more than before."""
        told = {"state": StepState.DONE, "due_ms": None, "detail": detail, "effects": self.effects + effects}
        return self.model_copy(update=told)

    def failed(self, detail: str) -> Job:
        """The same job, which cannot be done any more."""
        return self.model_copy(update={"state": StepState.FAILED, "due_ms": None, "detail": detail})

    def begun(self, subject: str, detail: str, *, effects: int = 1) -> Job:
        """The same job once it took effect on `subject`."""
        told = {"subject": subject, "due_ms": None, "detail": detail, "effects": self.effects + effects}
        return self.model_copy(update=told)

    def report(self) -> StepReport:
        """What `inspect` answers."""
        return StepReport(self.state, self.subject, self.detail)


class Notice(_Value):
    """A change by hand. `number` counts those of all workloads, `change` those of this one; event time in ms."""

    number: int = Field(ge=1)
    workload: str
    change: int = Field(ge=1)
    at_ms: int
    summary: str
