"""Ranges and rounding: what a tensor's distribution and a layer's inputs make of scales and INT8 weights."""

from __future__ import annotations

import numpy as np
import pytest
from dualexport.calibration.gptq import round_weight
from dualexport.calibration.histogram import BINS, InputObserver
from dualexport.calibration.scales import LEVELS, SMALLEST_SCALE, choose_scale
from dualexport.core.choices import Method
from dualexport.core.errors import QuantizationError


def observe(*parts: np.ndarray) -> InputObserver:
    observer = InputObserver(parts[0].shape[1])
    for part in parts:
        observer.add(part.astype(np.float32), float(part.min()), float(part.max()), 64)
    return observer


def test_a_histogram_that_had_to_grow_counts_every_value_once() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.0, 0.01, (500, 4)), rng.normal(0.0, 5.0, (500, 4))
    grown, whole = observe(small, large), observe(np.concatenate([large, small]))
    assert grown.counts.sum() == whole.counts.sum() == 4000
    assert grown.peak == whole.peak == pytest.approx(np.abs(large).max())
    assert grown.limit / BINS < grown.peak / LEVELS


def test_max_keeps_every_value_and_the_others_clip_outliers() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, (60000, 4))
    values[0, 0] = 40.0
    limits = {method: choose_scale("x", observe(values), method) * LEVELS for method in Method}
    assert limits[Method.MAX] == pytest.approx(40.0, rel=1e-3)
    assert all(2.0 < limits[method] < 30.0 for method in (Method.ENTROPY, Method.PERCENTILE, Method.MSE))


def test_mse_finds_the_limit_of_least_error() -> None:
    values = np.random.default_rng(0).laplace(0.0, 1.0, (50000, 4))

    def error(limit: float) -> float:
        step = limit / LEVELS
        return float(np.mean((values - np.clip(np.rint(values / step), -LEVELS, LEVELS) * step) ** 2))

    chosen = error(choose_scale("x", observe(values), Method.MSE) * LEVELS)
    best = min(error(limit) for limit in np.linspace(2.0, 14.0, 49))
    assert chosen <= 1.02 * best


def test_a_tensor_without_range_is_named() -> None:
    with pytest.raises(QuantizationError, match=r"blocks\.0\.attn was zero"):
        choose_scale("blocks.0.attn", observe(np.zeros((8, 4))), Method.MSE)


@pytest.mark.parametrize("method", Method)
def test_a_degenerate_range_gives_a_usable_scale(method: Method) -> None:
    scale = choose_scale("x", observe(np.full((8, 4), 1e-30)), method)
    assert scale == SMALLEST_SCALE
    assert np.float16(scale) > 0


def test_rounding_against_what_flows_in_beats_rounding_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(4000, 8)) @ rng.normal(size=(8, 64)) + 0.3 * rng.normal(size=(4000, 64)) + 1.0
    weight = rng.normal(size=(32, 64)).astype(np.float32)
    rounded = round_weight(weight, mixed.T @ mixed / len(mixed), len(weight))
    nearest = np.rint(weight / rounded.scales[:, None]).clip(-LEVELS, LEVELS) * rounded.scales[:, None]
    compensated = np.square(mixed @ (weight - rounded.dequantized()).T).mean()
    assert compensated < 0.2 * np.square(mixed @ (weight - nearest).T).mean()
    assert np.abs(rounded.values).max() <= LEVELS


def test_outputs_of_nothing_but_zeros_round_to_zeros() -> None:
    rounded = round_weight(np.zeros((4, 8), np.float32), np.zeros((8, 8)), 4)
    assert not rounded.values.any()
    assert (rounded.scales >= SMALLEST_SCALE).all()


def test_a_scale_for_several_outputs_holds_what_the_largest_needs() -> None:
    weight = np.ones((6, 8), np.float32) * np.array([1, 2, 4, 10, 20, 40], np.float32)[:, None]
    rounded = round_weight(weight, np.eye(8), 2)
    np.testing.assert_allclose(rounded.scales, [4 / LEVELS, 40 / LEVELS], rtol=1e-3)
    np.testing.assert_allclose(rounded.dequantized(), weight, rtol=0.02)
