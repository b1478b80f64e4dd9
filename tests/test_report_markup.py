"""Markup and charts of a report."""

from __future__ import annotations

import math
import re

import pytest

from darkpy.report.markup import Markup, element, join
from darkpy.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, Mark, line_chart, thinned


def test_element() -> None:
    inner = element("b", "a < b", class_="x", aria_label='"&"', hidden=True, id=None, open=False)
    assert inner == '<b class="x" aria-label="&quot;&amp;&quot;" hidden>a &lt; b</b>'
    assert element("p", "<i>", None, inner, [1, ["&"]]) == f"<p>&lt;i&gt;{inner}1&amp;</p>"
    assert element("img", src="a") == '<img src="a">'
    assert element("circle", r=2) == '<circle r="2"/>'
    assert element("meta", name="a") == '<meta name="a">'
    assert join(["<", Markup("<")]) == "&lt;<"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 500, [0, 100, 200, 300, 400, 500]),
        (0, 4.5, [0, 1, 2, 3, 4]),
        (0, 0.013, [0, 0.005, 0.01]),
        (0, 2900, [0, 1000, 2000]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, "").ticks() == pytest.approx(ticks)


def test_lines_are_where_they_belong() -> None:
    line = Line([0, 50, 75, 100], [0, 5, math.nan, 10], "all", "<name>")
    chart = line_chart("a & b", Axis(0, 100, "x"), Axis(0, 10, "y"), [line], [Mark(100, 10, "top", "all")])
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    points = re.search(r'points="([^"]*)"', chart)
    assert points is not None
    assert points[1] == f"0,{height:g} {width / 2:g},{height / 2:g} {width:g},0"
    assert 'aria-label="a &amp; b"' in chart
    assert "<title>&lt;name&gt;</title>" in chart
    assert f'<circle cx="{width:.1f}" cy="0.0" r="4" class="dot all"/>' in chart


def test_thinned_keeps_the_last() -> None:
    assert thinned(range(10), 4).tolist() == [0, 3, 6, 9]
    assert thinned(range(11), 4).tolist() == [1, 4, 7, 10]
    assert thinned([1.5], 4).tolist() == [1.5]
    assert len(thinned(range(100_000), 400)) <= 400
