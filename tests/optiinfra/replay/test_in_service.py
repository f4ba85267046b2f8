"""How long requests are in service: what the command line says of it holds in a scenario's scene and report."""

from __future__ import annotations

import pytest

from optiinfra.replay.staged import stage
from optiinfra.replay.whole import Asked
from tests.optiinfra.replay.test_scenarios import TINY, kept


@pytest.mark.parametrize("service_s", [3, 20])
def test_the_time_in_service_that_was_asked_for_is_that_of_the_scene_and_of_its_report(service_s: int) -> None:
    race = stage(TINY, Asked(service_s=service_s), 0)
    assert race.about()["service_s"] == service_s
    _, keeps = kept(race, 30)
    calm = [seen for seen in keeps.looks if 600 <= seen.now_s < 1200]
    running = sum(seen.running or 0.0 for seen in calm) / len(calm)
    assert running == pytest.approx(30 * service_s, rel=0.1), "Little's law"
    usual = stage(TINY, Asked(), 0)
    assert usual.about()["service_s"] == round(48 / usual.capacity_rps)
