"""Charts have a colour for every series, and axes hold what they show."""

from __future__ import annotations

import re
from itertools import pairwise

from dualexport.report.axis import linear_axis, log_axis, round_numbers
from dualexport.report.charts import Point, Series, distribution, dots, format_tick, lines, scatter, stacked
from dualexport.report.style import STYLE
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(deadline=None, max_examples=100)
VALUES = st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=8)
NAMES = [f"artifact {number}" for number in range(11)]


def test_every_series_has_a_colour_however_many_there_are() -> None:
    series = [Series(name, [0.1 + number / 20, 0.9]) for number, name in enumerate(NAMES)]
    points = [Point(name, number, 0.5, 0.4, 0.6) for number, name in enumerate(NAMES)]
    charts = (
        *(scatter(points, "x", "y"), lines(["a", "b"], series, "y"), distribution(series, "x")),
        *(dots(["a", "b"], series, "x"), stacked(["a", "b"], series, "x")),
    )
    for chart in charts:
        used = set(re.findall(r'class="(?:fill|stroke|whisker) (s\d+)"', chart))
        assert len(used) == 8
        assert all(f".fill.{colour}{{" in STYLE for colour in used)
        assert all(f".stroke.{colour}{{" in STYLE for colour in used)


@FEW
@given(VALUES)
def test_an_axis_holds_its_values_and_a_few_ticks(values: list[float]) -> None:
    for axis in (linear_axis(values, 0, 100), log_axis(values, 0, 100)):
        assert all(0 <= axis.at(value) <= 100 for value in values)
        assert 1 <= len(axis.ticks) <= 12
        assert list(axis.ticks) == sorted(set(axis.ticks))
        assert all(format_tick(tick) for tick in axis.ticks)


@FEW
@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_round_numbers_are_inside_and_evenly_spaced(low: float, span: float) -> None:
    numbers = round_numbers(low, low + span)
    slack = 1e-6 * (abs(low) + span)
    assert all(low - slack <= number <= low + span + slack for number in numbers)
    steps = [after - before for before, after in pairwise(numbers)]
    assert all(abs(step - steps[0]) <= slack for step in steps)


@FEW
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_any_positive_times_can_be_drawn(rows: list[list[float]]) -> None:
    assert distribution([Series("a", row) for row in rows], "milliseconds").startswith("<svg")
