"""Pictures: the same data gives the same bytes, ids that may share a page, names that are text, and nothing hidden."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from contracts.errors import Unavailable
from optiinfra.replay.charts import frontier_svg, left_out, timeline_svg
from optiinfra.replay.curves import Curve, Line
from optiinfra.replay.frontier import Point


def point(policy: str, cost: float, attainment: float) -> Point:
    return Point(policy, 180.0, {"knob": cost}, cost, attainment, 3.0, 0)


POINTS = [point("hpa", 1.1, 0.98), point("hpa", 1.3, 0.995), point("<b>&$x^2$", 1.2, 0.999), point("oracle", 1.0, 1.0)]


def line(*values: float) -> Line:
    return Line(np.arange(len(values), dtype=np.float64) * 60.0 + 600.0, np.array(values, np.float64))


CURVES = [
    Curve("optiinfra", "target=0.99", line(2, 3, 3), line(3, 3, 4), line(0, 5, 0), line(0.0, 0.2, 0.0)),
    Curve("oracle", "knows the future", line(2, 2, 3)),
]


def test_the_same_data_gives_the_same_bytes() -> None:
    assert frontier_svg(POINTS) == frontier_svg(POINTS)
    first, second = (timeline_svg(line(1, 2, 3), CURVES, outages_s=[(630, 660)], losses_s=[700]) for _ in range(2))
    assert first == second
    assert not re.search(r"20\d\d-\d\d", first)


@pytest.mark.parametrize("alone", [True, False])
def test_a_picture_is_well_formed_and_all_its_ids_begin_with_its_name(alone: bool) -> None:
    for text in (frontier_svg(POINTS, "one", alone=alone), timeline_svg(line(1, 2, 3), CURVES, "one", alone=alone)):
        root = ElementTree.fromstring(text)
        ids = [each.get("id", "") for each in root.iter() if each.get("id")]
        assert len(ids) == len(set(ids))
        assert all(each.startswith("one-") for each in ids)
        used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
        assert used == set(ids)
        assert ("background:#fff" in text) == alone


def test_names_are_text_and_neither_markup_nor_mathematics() -> None:
    root = ElementTree.fromstring(frontier_svg(POINTS))
    assert "<b>&$x^2$" in [each.text for each in root.iter()]


def test_a_frontier_says_99_and_999_and_leaves_out_what_it_counts() -> None:
    text = frontier_svg(POINTS)
    assert ">99 %<" in text
    assert ">99.9 %<" in text
    assert left_out(POINTS) == 0
    assert left_out([*POINTS, point("hpa", 9.0, 0.999), point("hpa", 1.0, 0.5)]) == 2


def test_nothing_that_reaches_nine_in_ten_is_a_picture_all_the_same() -> None:
    assert "hpa" not in frontier_svg([point("hpa", 1.0, 0.2)])


def test_a_timeline_tells_each_fleet_with_its_knobs_and_its_span() -> None:
    words = [each.text for each in ElementTree.fromstring(timeline_svg(line(1, 2, 3), CURVES)).iter()]
    assert "optiinfra (target=0.99)" in words
    assert "oracle (knows the future)" in words
    assert not any("$" in (word or "") for word in words)
    assert "minutes of the trace that are over" in words
    days = Line(np.arange(8, dtype=np.float64) * 86_400.0, np.ones(8))
    assert "days of the trace that are over" in timeline_svg(days, [Curve("oracle", "", days)])


def test_settings_of_the_user_change_no_picture() -> None:
    import matplotlib

    before = frontier_svg(POINTS)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        assert frontier_svg(POINTS) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Unavailable, match=r"pip install 'optiinfra\[report\]'"):
        frontier_svg(POINTS)


def test_a_fleet_that_loses_its_head_is_cut_off_and_says_so() -> None:
    wild = Curve("reactive", "hold_s=60", line(2, 900, 3))
    words = [each.text for each in ElementTree.fromstring(timeline_svg(line(1, 2, 3), [*CURVES, wild])).iter()]
    assert "reactive (hold_s=60; up to 900, cut off here)" in words
    assert "optiinfra (target=0.99)" in words
    assert "200" not in words
