"""How many replicas the KV cache in use needs: fewer would stand where memory pressure asks for more again.

What is in use stays when a replica goes, and is spread over those that are left. Engines that tell no use say nothing
for or against it.
"""

from __future__ import annotations

from math import ceil

CALM_RATIO = 0.75
"""Use of the KV cache below which pressure is over: more is asked for above 0.8 (rule `scale-up-on-kv-pressure`), and
what is given back must not bring that about."""
_ROUNDING = 1e-9


def least(usage_ratio: float | None, serving: int) -> int:
    """The fewest replicas among which what is in use at `serving` of them leaves room; 0 where use is not told.

    >>> least(0.62, 4), least(0.5, 3), least(None, 3)
    (4, 2, 0)
    """
    return 0 if usage_ratio is None else ceil(usage_ratio * serving / CALM_RATIO - _ROUNDING)


def held(values: dict[str, float], usage_ratio: float | None, serving: int) -> tuple[dict[str, float], str]:
    """The numbers of a finding with no more spare than memory can spare, and words for it where it is what binds.

    Where none can be spared, as many are wanted as are ordered: so rules that give capacity back for want of a forecast
    stand back too.
    """
    need, ordered = least(usage_ratio, serving), round(values["replicas_ordered"])
    spare = values.get("replicas_spare", 0.0)
    room = max(0, ordered - need)
    if usage_ratio is None or need <= 1 or room >= max(1.0, spare):
        return values, ""
    words = (
        f"the KV cache is {usage_ratio:.0%} in use on {serving}: fewer than {need} would stand above {CALM_RATIO:.0%}"
    )
    changes = {"replicas_wanted": max(values.get("replicas_wanted", 0.0), float(ordered - room))}
    if "replicas_spare" in values:
        changes["replicas_spare"] = min(spare, float(room))
    return values | changes, words
