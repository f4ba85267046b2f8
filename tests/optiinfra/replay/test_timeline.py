"""The timeline of an account: each request is judged once, and as late as it was."""

from __future__ import annotations

import pytest

from optiinfra.replay.account import Timeline
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.scene import Scene
from tests.optiinfra.replay.loads import options


def test_the_late_of_all_points_are_the_late_of_the_whole() -> None:
    told = options()
    scene = Scene([4] * 30 + [40] * 30 + [4] * 60, told, cloud_of(told, {}, None, None), 1)
    timeline = Timeline(scene, 15)
    for at_s in range(15, 121, 15):
        scene.advance(at_s)
        timeline.note()
    shares = [each.late_ratio for each in timeline.points]
    assert shares[:2] == [0.0, 0.0]
    assert shares[3:] == [1.0] * 5, "after a while nobody is in time, to the last second of each point"
    judged = [scene.total[at_s - 1] - scene.total[max(0, at_s - 16)] for at_s in range(15, 121, 15)]
    assert sum(share * many for share, many in zip(shares, judged, strict=True)) == pytest.approx(scene.late(0, 119))
