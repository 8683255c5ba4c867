"""Properties of scales, rounding and searches on whatever values: against SciPy, and by definition."""

from __future__ import annotations

import numpy as np
import pytest
from dualexport.calibration.gptq import round_weight
from dualexport.calibration.histogram import BINS, InputObserver
from dualexport.calibration.scales import LEVELS, PERCENTILE, SMALLEST_SCALE, choose_scale, round_scale
from dualexport.calibration.search import find_least, find_smallest
from dualexport.core.choices import Method
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

SEEDS = st.integers(0, 2**32 - 1)


def observe(values: np.ndarray) -> InputObserver:
    observer = InputObserver(values.shape[1])
    observer.add(values, float(values.min()), float(values.max()), len(values))
    return observer


@given(SEEDS, st.floats(-12, 12), st.sampled_from(list(Method)))
def test_a_scale_is_a_half_and_reaches_no_further_than_the_values(seed: int, exponent: float, method: Method) -> None:
    values = (np.random.default_rng(seed).standard_t(3, (500, 4)) * 2.0**exponent).astype(np.float32)
    scale = choose_scale("x", observe(values), method)
    assert scale == float(np.float16(scale)) >= SMALLEST_SCALE
    assert scale == SMALLEST_SCALE or scale * LEVELS <= 1.01 * np.abs(values).max()


@settings(max_examples=10)
@given(SEEDS)
def test_the_percentile_is_that_of_scipy_within_a_bin(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(0, 1, (30_000, 4)).astype(np.float32)
    observer = observe(values)
    expected = float(stats.scoreatpercentile(np.abs(values), PERCENTILE, interpolation_method="higher"))
    limit = choose_scale("x", observer, Method.PERCENTILE) * LEVELS
    assert limit == pytest.approx(expected, rel=2e-3, abs=2 * observer.limit / BINS)


@given(SEEDS)
def test_second_moments_are_numpy_s(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(300, 5)).astype(np.float32)
    observer = InputObserver(5)
    for part in np.array_split(rows, 3):
        observer.add(part, float(part.min()), float(part.max()), len(part))
    np.testing.assert_allclose(observer.moments, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    assert observer.counts.sum() == rows.size


@given(SEEDS, st.integers(1, 5), st.integers(1, 20), st.booleans())
def test_no_output_is_further_off_than_with_its_weights_rounded_to_the_nearest(
    seed: int, outputs: int, inputs: int, in_one: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(100, inputs)) @ random.normal(size=(inputs, inputs))
    weight = random.normal(size=(outputs, inputs)).astype(np.float32)
    rounded = round_weight(weight, rows.T @ rows / len(rows), 1 if in_one else outputs)
    scales = rounded.output_scales.astype(np.float64)[:, None]
    nearest = np.clip(np.rint(weight / scales), -LEVELS, LEVELS) * scales
    error, least = (np.square(rows @ (weight - found).T).mean(axis=0) for found in (rounded.dequantized(), nearest))
    assert (error <= least * (1 + 1e-4) + 1e-12).all()


@given(st.floats(1e-30, 6e4))
def test_no_half_lies_nearer_than_the_rounded_scale(scale: float) -> None:
    chosen = round_scale(scale)
    below, above = (float(np.nextafter(np.float16(chosen), np.float16(end))) for end in (0, np.inf))
    if scale >= SMALLEST_SCALE:
        assert abs(chosen - scale) <= min(abs(below - scale), abs(above - scale))
    else:
        assert chosen == SMALLEST_SCALE


@given(st.frozensets(st.integers(0, 15), max_size=6), st.permutations(range(16)))
def test_what_is_needed_is_found_in_whatever_order_it_is_looked_for(needed: frozenset[int], ranked: list[int]) -> None:
    assert frozenset(find_smallest(ranked, needed.issubset)) == needed


@given(st.sets(st.frozensets(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=4))
def test_of_what_is_found_nothing_can_be_left_out(ways: set[frozenset[int]]) -> None:
    def passes(chosen: frozenset[int]) -> bool:
        return any(way <= chosen for way in ways)

    found = frozenset(find_smallest(range(8), passes))
    assert passes(found)
    assert not any(passes(found - {item}) for item in found)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_least_count_is_found_in_few_trials(least: int, most: int) -> None:
    tried: list[int] = []

    def reaches(count: int) -> bool:
        tried.append(count)
        return count >= least

    assert find_least(reaches, most) == (least if least <= most else None)
    assert len(tried) <= 2 * max(1, most).bit_length() + 2
