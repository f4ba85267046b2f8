"""What happened while nothing was measured: whether capacity was given up, and who was served in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from optiinfra.replay.lateness import AFTER_S, pooled
from optiinfra.replay.options import Outage
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene


class Blind(BaseModel):
    """One outage of measurements, seconds [begin, end) of the trace.

    Replicas that served just before it, the fewest in it, and at its end. `removed_blind`: replicas that the policy
    gave up in it; `lost`: spot replicas that were taken. Attainment is of the `requests` that came in it and of those
    in the hour after it; None where none came.
    """

    model_config = ConfigDict(frozen=True)

    begin_s: int
    end_s: int
    serving_before: int
    serving_least: int
    serving_after: int
    removed_blind: int
    lost: int
    requests: int
    requests_hour_after: int
    attainment_ratio: float | None
    attainment_hour_after_ratio: float | None


def blinded(scene: Scene, outages: Iterable[Outage]) -> tuple[Blind, ...]:
    """The account of each outage that began within the trace, of a scene that has come to its end."""
    return tuple(
        _one(scene, each.begin_s, min(each.end_s, scene.now_s)) for each in outages if each.begin_s < scene.now_s
    )


def together(told: Sequence[Blind]) -> tuple[float | None, float | None]:
    """Share in time of the requests of all outages, and of those of the hours after them."""
    during = [(each.requests, each.attainment_ratio) for each in told]
    after = [(each.requests_hour_after, each.attainment_hour_after_ratio) for each in told]
    return _mean(during), _mean(after)


def _mean(parts: list[tuple[int, float | None]]) -> float | None:
    """Weighted by requests."""
    known = [(requests, ratio) for requests, ratio in parts if ratio is not None]
    total = sum(requests for requests, _ in known)
    return sum(requests * ratio for requests, ratio in known) / total if total else None


def _one(scene: Scene, begin_s: int, end_s: int) -> Blind:
    before = next((many for at_s, many in reversed(scene.served_by) if at_s < begin_s), scene.served_by[0][1])
    within = {at_s: many for at_s, many in scene.served_by if begin_s <= at_s < end_s}
    left = [each for each in scene.known.values() if each.left_s is not None and begin_s <= each.left_s < end_s]
    late_after_s = scene.options.late_after_s
    lost = sum(each.phase is Phase.LOST for each in left)
    return Blind(
        begin_s=begin_s,
        end_s=end_s,
        serving_before=before,
        serving_least=min(before, *within.values()) if within else before,
        serving_after=list(within.values())[-1] if within else before,
        removed_blind=len(left) - lost,
        lost=lost,
        requests=scene.total[end_s] - scene.total[begin_s],
        requests_hour_after=scene.total[min(end_s + AFTER_S, scene.now_s)] - scene.total[end_s],
        attainment_ratio=pooled(scene.total, scene.queue, [(begin_s, end_s)], late_after_s),
        attainment_hour_after_ratio=pooled(scene.total, scene.queue, [(end_s, end_s + AFTER_S)], late_after_s),
    )
