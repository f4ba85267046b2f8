"""Scenarios: each brings about what it tells of, the same for everybody, and the command and the page show it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bench.scenarios import DOCS, MARKS, play, put, section
from connectors.traces.generated import Profile, Surge
from connectors.twin.fluid import Span
from contracts.errors import ConfigError
from contracts.scaling import LoadSeen
from optiinfra.cli import app
from optiinfra.replay import scenarios, staged
from optiinfra.replay.mishaps import Loss, Mishaps, Slowdown
from optiinfra.replay.peer_scene import driven
from optiinfra.replay.peers import hpa
from optiinfra.replay.policy import Policy
from optiinfra.replay.scenarios import SCENARIOS, Scenario, Storm, scenario
from optiinfra.replay.scene import Scene
from optiinfra.replay.staged import COST, HOURS, WATCHED, StagedRace, stage
from optiinfra.replay.whole import Asked, run
from tests.optiinfra.replay.html import Seen

NAMES = [each.name for each in SCENARIOS]
TINY = Scenario(
    "tiny",
    "A tiny one",
    "Half of the fleet is lost, and what is left is slow.",
    3600,
    1200,
    Span(1800, 3000),
    profile=Profile(mean_rps=30.0, day_ratio=0.0, week_ratio=0.0, drift_ratio=0.0, bursts_per_day=0.0, gap_cv=1.0),
    surges=(Surge(2700, 300, 1.5),),
    startup_s=60,
    mishaps=Mishaps(losses=(Loss(at_s=1800, ratio=0.5),), slowdowns=(Slowdown(begin_s=2100, end_s=2400, ratio=0.5),)),
    outages=(Span(1500, 1700),),
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalers are tuned on an ordinary hour, not on a day."""
    monkeypatch.setattr(staged, "ORDINARY_S", 3600)


class Keeps:
    """Always asks for the same number, and remembers what it was shown."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.looks: list[LoadSeen] = []

    def decide(self, seen: LoadSeen) -> int:
        self.looks.append(seen)
        return self.wanted


def kept(race: StagedRace, wanted: int) -> tuple[Scene, Keeps]:
    """A fleet that always wants so many replicas, in the scene of a scenario."""
    keeps = Keeps(wanted)
    policy = Policy("keeps", "", lambda course, knobs: keeps, ({},))
    return driven(race, race.asked, float(race.scenario.startup_s), policy, {}).scene, keeps


def late(scene: Scene, begin_s: int, end_s: int) -> float:
    return scene.late(begin_s, end_s) / (scene.total[end_s] - scene.total[begin_s])


def jumps(scene: Scene, begin_s: int) -> float:
    """Load of ten minutes over that of the ten before."""
    total = scene.total
    return (total[begin_s + 600] - total[begin_s]) / (total[begin_s] - total[begin_s - 600])


def _burst(scene: Scene, keeps: Keeps) -> None:
    assert [round(jumps(scene, hour * 3600), 1) for hour in (3, 4, 5)] == pytest.approx([1.3, 2.0, 1.5], abs=0.15)


def _launch(scene: Scene, keeps: Keeps) -> None:
    hour = [scene.total[at_s + 3600] - scene.total[at_s] for at_s in range(0, 8 * 3600, 3600)]
    assert hour[4] > 2 * hour[3]
    assert min(hour[5:]) > 2 * hour[3], "it stays"


def _zone(scene: Scene, keeps: Keeps) -> None:
    assert scene.losses == [(5 * 3600, 10)]
    assert scene.interrupted > 0
    assert late(scene, 4 * 3600, 5 * 3600) == 0.0


def _storm(scene: Scene, keeps: Keeps) -> None:
    lost = [at_s for at_s, _ in scene.losses]
    assert len(lost) >= 10
    assert all(5 * 3600 <= at_s <= 6 * 3600 for at_s in lost)
    assert len({each.zone for each in scene.notices}) == 5


def _outage(scene: Scene, keeps: Keeps) -> None:
    blind = [look.now_s for look in keeps.looks if look.arrived is None]
    assert (min(blind), max(blind)) == (4.5 * 3600, 5 * 3600 - 15)


def _deploy(scene: Scene, keeps: Keeps) -> None:
    assert late(scene, 3 * 3600, 4 * 3600) == 0.0
    assert late(scene, 4 * 3600 + 600, 5 * 3600) > 0.9
    assert scene.losses == []


def _slow(scene: Scene, keeps: Keeps) -> None:
    assert scene.options.startup_s == 720
    assert scene.total[13 * 3600] - scene.total[12 * 3600] > 1.2 * (scene.total[12 * 3600] - scene.total[11 * 3600])


HAPPENS: dict[str, tuple[int, Callable[[Scene, Keeps], None]]] = {
    "burst": (30, _burst),
    "model-launch": (30, _launch),
    "zone-loss": (30, _zone),
    "spot-storm": (40, _storm),
    "metrics-outage": (40, _outage),
    "bad-deploy": (20, _deploy),
    "slow-start-up": (60, _slow),
}


@pytest.mark.parametrize("name", HAPPENS)
def test_what_a_scenario_tells_of_happens_in_the_fleet(name: str) -> None:
    wanted, happens = HAPPENS[name]
    happens(*kept(stage(scenario(name), Asked(), 0), wanted))


def test_a_week_has_its_days_and_no_mishap() -> None:
    race = stage(scenario("diurnal-week"), Asked(), 0)
    hours = race.load.per_second.reshape(7, 24, 3600).mean(axis=(0, 2))
    assert hours.max() > 2 * hours.min()
    assert int(hours.argmax()) in range(12, 19)
    assert race.asked.mishaps == Mishaps()
    assert not race.blind


def test_every_scenario_is_told_of_and_scored_after_it_was_learnt() -> None:
    assert set(NAMES) == {*HAPPENS, "diurnal-week"}
    for each in SCENARIOS:
        assert 0 < each.scored_from_s <= each.watched_s.begin_s < each.watched_s.end_s <= each.length_s
        assert all(each.scored_from_s <= begin < end <= each.length_s for begin, end in each.bands_s)
        assert all(each.scored_from_s < loss.at_s < each.length_s for loss in each.mishaps.losses)


def test_the_seed_draws_the_traffic_and_the_storm() -> None:
    storm = replace(TINY, storm=Storm(1200, 1200))
    first, again, other = (stage(storm, Asked(), seed) for seed in (0, 0, 1))
    assert np.array_equal(first.load.per_second, again.load.per_second)
    assert not np.array_equal(first.load.per_second, other.load.per_second)
    losses = [[zone.next_loss_s(0) for zone in race.asked.zones.values()] for race in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert first.asked.spot_ratio == 0.5


def test_a_scaler_is_tuned_on_an_ordinary_day_and_not_on_the_mishap() -> None:
    hit, spared = stage(TINY, Asked(), 0), stage(replace(TINY, mishaps=Mishaps(), surges=()), Asked(), 0)
    (knobs,) = hit.tried(hpa.POLICY, 60.0).grid
    assert (knobs,) == spared.tried(hpa.POLICY, 60.0).grid
    kept_on = [hit.tried(hpa.POLICY, startup_s).grid for startup_s in (60.0, 1200.0)]
    assert kept_on[0] != kept_on[1], "the longer a start-up takes the more room it leaves"


def test_pictures_and_figures_repeat_to_the_byte_and_hold_what_happened() -> None:
    (svg, figures), again = play(TINY), play(TINY)
    assert (svg, json.dumps(figures)) == (again[0], json.dumps(again[1]))
    ElementTree.fromstring(svg)
    assert [row["policy"] for row in figures["policies"]] == ["rules", "hpa", "kpa", "static p99"]
    assert all(row[WATCHED] < row["attainment"] < 1 for row in figures["policies"]), "the lost hour weighs on everyone"
    assert figures["policies"][-1][COST] == 1.0
    assert figures["rules"]["interrupted"] > 0
    assert sum(figures["rules"]["actions"].values()) >= 1
    told = section(figures)
    assert all(row["policy"] in told for row in figures["policies"])


def test_the_whole_policy_is_measured_in_the_hours_watched_as_scalers_are() -> None:
    race = stage(TINY, Asked(), 0)
    whole = run(race, race.asked, 60.0)
    moments = [each for each in whole.result.timeline if 1800 < each.at_s <= 3000]
    came = race.load.per_second[1800:3000].sum()
    assert sum(each.arrived_rps for each in moments) * (moments[1].at_s - moments[0].at_s) == pytest.approx(came)
    watched = whole.point.measures[WATCHED]
    assert watched is not None
    assert 0 < watched < whole.point.attainment
    assert whole.point.measures[HOURS] == pytest.approx(whole.result.cost.replica_s / 3600, abs=1e-3)


def test_what_goes_between_the_marks_replaces_what_was_there_and_nothing_else() -> None:
    begin, end = (mark.format(name="tiny") for mark in MARKS)
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    assert put(text, "tiny", "new") == f"before\n{begin}\nnew\n{end}\nafter\n"
    assert put(put(text, "tiny", "a\\1"), "tiny", "new") == put(text, "tiny", "new")
    with pytest.raises(ValueError, match="README"):
        put("nothing", "tiny", "new")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_every_scenario_with_its_command_picture_and_figures(name: str) -> None:
    page = (DOCS / "README.md").read_text()
    begin, end = (mark.format(name=name) for mark in MARKS)
    shown = page[page.index(begin) : page.index(end)]
    assert f"    optiinfra replay --scenario {name}\n" in shown
    assert f"]({name}.svg)" in shown
    assert "**`rules`**" in shown
    svg = (DOCS / f"{name}.svg").read_text()
    assert len(svg) < 150_000
    ElementTree.fromstring(svg)
    figures = json.loads((DOCS / f"{name}.json").read_text())
    assert section(figures) in shown, "picture, figures and page are of the same run"
    assert figures["story"] == scenario(name).story
    assert page[page.index(end) :].split("## ")[0].count(".") >= 2, (
        "and what the policy did well and badly stands below"
    )


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["replay", *words])


def test_an_unknown_scenario_tells_which_there_are() -> None:
    with pytest.raises(ConfigError, match="no scenario 'flood'") as told:
        scenario("flood")
    assert all(name in told.value.fix for name in [*NAMES, "list"])
    result = command("--scenario", "flood")
    assert result.exit_code == 2
    assert "zone-loss" in result.output


def test_the_list_tells_the_story_of_each() -> None:
    result = command("--scenario", "list")
    assert result.exit_code == 0
    words = re.sub(r"\s+", " ", result.stdout)
    assert all(name in words for name in NAMES)
    assert "vanishes" in words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no trace named"),
        (("--scenario", "burst", "--trace", "generated", "--outage", "1h/5m"), "sets --trace, --outage itself"),
        (("--scenario", "burst", "--level", "requests"), "sets --level requests itself"),
        (("--scenario", "burst", "--spot", "zone.json"), "sets --spot itself"),
    ],
)
def test_what_a_scenario_sets_itself_cannot_be_said_beside_it(words: tuple[str, ...], told: str) -> None:
    result = command(*words)
    assert result.exit_code == 2
    assert told in result.output


def test_the_command_plays_a_scenario_with_its_own_start_up_or_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "SCENARIOS", (TINY,))
    monkeypatch.chdir(tmp_path)
    result = command("--scenario", "tiny", "--policy", "hpa,rules", "--json", "r.json", "--html", "r.html")
    assert result.exit_code == 0, result.output
    assert "Half of the fleet is lost" in result.stdout
    assert "static p99" in result.stdout
    data = json.loads(Path("r.json").read_text())
    assert data["meta"]["scenario"] == "tiny"
    assert data["meta"]["scored_s"] == [1200, 3600]
    assert data["meta"]["outages_s"] == [[1500, 1700]]
    rows = {row["policy"]: row for row in data["results"]}
    assert {"oracle", "hpa", "rules"} == set(rows)
    assert rows["rules"]["startup_s"] == 60
    assert rows["hpa"][WATCHED] < rows["hpa"]["attainment"]
    assert [at_s for at_s, _ in data["rules"][0]["spot_losses"]] == [1800]
    page = Seen(Path("r.html").read_text())
    assert page.wrong == []
    text = re.sub(r"\s+", " ", page.text)
    assert "Scenario tiny: A tiny one" in text
    assert TINY.story in text
    assert "a trace says came" not in text
    bill = f"{rows['hpa'][COST] * 100:.2f} %"
    assert all(part in text for part in ("bill, of static p99", "in the hours watched", "static p99", bill))
    assert "in units of the oracle" not in text
    assert page.tags.count("svg") == 1, "who has one setting has no frontier"
    assert "something is amiss that lasts. Dashed lines: replicas were lost." in text
    assert "chosen in hindsight on the very span" not in text
    again = command("--scenario", "tiny", "--policy", "hpa", "--startup", "2m", "--json", "s.json", "--seed", "1")
    assert again.exit_code == 0, again.output
    other = json.loads(Path("s.json").read_text())
    assert other["meta"]["startups_s"] == [120]
    assert other["meta"]["requests"] != data["meta"]["requests"]
