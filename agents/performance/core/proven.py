"""Remembers the most that a replica has served in time, and whether users had to wait at about that much.

It is what may be planned with until a replica's limit is seen. A fleet is let down to a little more than what was
served in time: then load per replica rises, and either more is proven or somebody waits. After that it goes no further
for a while. Load is forgotten slowly and given up sooner where users wait at less.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from agents.performance.core.replicas import ReplicaSeen

STEP_RATIO = 0.15
"""So much more than was served in time is tried: about a replica of seven, less than one action takes."""
HALF_LIFE_S = 4 * 86_400
"""Half of the most that was served in time is forgotten in four days: a night or a weekend leaves most of it."""
STRAIN_HALF_LIFE_S = 43_200
"""Users that waited are forgotten by half in twelve hours; then more is tried again."""
LEAST_REQUESTS = 30.0
"""A window in which fewer requests began service proves nothing: chance has too large a part."""
_LEAST_LATE = 3.0
_STRAINED_ABOVE = 0.5
"""At less than this share of what was served before, it is not the load that makes users wait."""
_GIVEN_UP = 0.1
"""Share that one window gives up in which everybody waits."""
_STRAINED = 0.25


class Proven(BaseModel):
    """`rps`: requests a second that one replica served in time, 0 while nothing is proven; `strain`: 1 when users last
    waited at about that much, falling to 0; `late`: whether they waited in the last window that tells."""

    model_config = ConfigDict(frozen=True)

    rps: float = 0.0
    strain: float = 0.0
    late: bool = False

    @property
    def strained(self) -> bool:
        """Whether users waited at about that much, and not long ago."""
        return self.strain > _STRAINED

    @property
    def tried_rps(self) -> float:
        """What is tried next: a little more than was served in time, and the less the more users waited."""
        return self.rps * (1.0 + STEP_RATIO * (1.0 - self.strain))

    def seen(self, each: ReplicaSeen, target: float, *, other: bool) -> Proven:
        """After one window. `other`: requests are not what they were, so that nothing is proven of them."""
        if other:
            return Proven()
        proven = self.rps * 0.5 ** (each.span_s / HALF_LIFE_S)
        strain = self.strain * 0.5 ** (each.span_s / STRAIN_HALF_LIFE_S)
        done = each.done * each.replicas
        if done < LEAST_REQUESTS:
            return Proven(rps=proven, strain=strain, late=self.late)
        rps = min(each.done, each.finished) / each.span_s
        late_ratio = 1.0 - min(1.0, each.in_time / each.done)
        if late_ratio <= 1.0 - target:
            return Proven(rps=max(proven, rps), strain=strain)
        late = proven > 0 and rps > _STRAINED_ABOVE * proven and late_ratio * done >= _LEAST_LATE
        if late and self.late:  # one window may be chance: a few requests that came at once
            strain = 1.0
        return Proven(rps=proven * (1.0 - _GIVEN_UP * late_ratio), strain=strain, late=late)

    def failed(self) -> Proven:
        """With fewer replicas users waited, and they were put back."""
        return self.model_copy(update={"strain": 1.0})
