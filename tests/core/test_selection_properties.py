"""Selections and grids, on whatever ratios and sizes."""

from __future__ import annotations

import math
from contextlib import suppress
from decimal import Decimal

from dualexport.core.errors import SelectionError
from dualexport.core.selection import STAGES, Selection, SelectionKind, parse_selections, write_selections
from dualexport.exporter.dualformer.token_grids import (
    check_selections,
    fine_kernel,
    local_window,
    stage_grids,
    trained_grid,
)
from hypothesis import given
from hypothesis import strategies as st

RATIOS = st.decimals("0.01", "1", places=2)
EXTENTS = st.integers(1, 100)
PLACES = st.tuples(st.sampled_from(SelectionKind), st.integers(0, STAGES - 1))


@st.composite
def selections(draw: st.DrawFn) -> tuple[Selection, ...]:
    places = draw(st.lists(PLACES, unique=True, min_size=1, max_size=4))
    return tuple(Selection(kind, stage, draw(RATIOS)) for kind, stage in places)


@given(selections())
def test_what_is_written_reads_back_in_the_network_s_order(chosen: tuple[Selection, ...]) -> None:
    parsed = parse_selections(write_selections(chosen))
    assert set(parsed) == set(chosen)
    assert [one.stage for one in parsed] == sorted(one.stage for one in chosen)
    assert parse_selections(write_selections(parsed)) == parsed


@given(st.text("TSX019:.,-e \u0663", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SelectionError):
        assert all(0 < one.ratio <= 1 and 0 <= one.stage < STAGES for one in parse_selections(text))


@given(RATIOS, EXTENTS, EXTENTS)
def test_a_selection_keeps_the_most_that_its_ratio_allows(ratio: Decimal, frames: int, side: int) -> None:
    kept, _, _ = Selection(SelectionKind.TIME, 0, ratio).apply((frames, side, side))
    assert kept <= ratio * frames < kept + 1
    _, height, width = Selection(SelectionKind.SPACE, 0, ratio).apply((frames, side, side))
    assert height == width == math.isqrt(int(ratio * side * side)) <= side


@given(EXTENTS, EXTENTS, EXTENTS)
def test_windows_divide_the_grid(frames: int, height: int, width: int) -> None:
    grid = (frames, height, width)
    window = local_window(grid)
    assert all(extent % part == 0 for extent, part in zip(grid, window, strict=True))
    assert all(part <= most for part, most in zip(window, (8, 7, 7), strict=True))


@given(selections(), st.sampled_from((16, 32)))
def test_grids_only_shrink_and_what_is_accepted_fits_every_stage(chosen: tuple[Selection, ...], frames: int) -> None:
    ordered = parse_selections(write_selections(chosen))
    grids = stage_grids(frames, ordered)
    assert stage_grids(frames, ()) == tuple((trained_grid(frames, stage),) for stage in range(STAGES))
    for stage, steps in enumerate(grids):
        assert all(small <= large for small, large in zip(steps[-1], trained_grid(frames, stage), strict=True))
    with suppress(SelectionError):
        check_selections(frames, ordered)
        for stage in range(3):
            kernel = fine_kernel(trained_grid(frames, stage))
            assert all(extent >= part for extent, part in zip(grids[stage][-1], kernel, strict=True))
