"""Statistics and divergences are SciPy's, on whatever values."""

from __future__ import annotations

import numpy as np
import pytest
from dualexport.verification.measures import (
    Share,
    cosine,
    kl_divergence,
    log_softmax,
    mcnemar_exact,
    signal_to_noise_db,
    softmax,
    wilson_interval,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats
from scipy.spatial import distance

LOGITS = arrays(np.float32, (2, 3, 7), elements=st.floats(-80, 80, width=32))


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(st.integers(1, 10**6))
    return draw(st.integers(0, total)), total


@given(counts())
def test_intervals_are_wilson_s(case: tuple[int, int]) -> None:
    count, total = case
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-12)
    share = Share.of(count, total)
    assert 0 <= share.low <= share.share <= share.high <= 1


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_paired_test_is_the_binomial_one(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-9)


@given(LOGITS)
def test_softmax_is_that_of_scipy(pair: np.ndarray) -> None:
    values = pair.astype(np.float64)
    np.testing.assert_allclose(log_softmax(pair), special.log_softmax(values, axis=-1), atol=1e-9)
    np.testing.assert_allclose(softmax(pair), special.softmax(values, axis=-1), atol=1e-12)


@given(LOGITS)
def test_the_divergence_is_the_relative_entropy_and_never_negative(pair: np.ndarray) -> None:
    reference, logits = pair
    probabilities = (special.softmax(one.astype(np.float64), axis=-1) for one in (reference, logits))
    divergence = kl_divergence(reference, logits)
    np.testing.assert_allclose(divergence, stats.entropy(*probabilities, axis=-1), rtol=1e-6, atol=1e-9)
    assert (divergence > -1e-9).all()


@given(arrays(np.float64, (2, 7), elements=st.floats(0.01, 100)), st.floats(0.01, 100))
def test_the_cosine_is_one_less_the_distance_and_knows_no_scale(pair: np.ndarray, factor: float) -> None:
    first, second = pair
    assert cosine(first, second) == pytest.approx(1 - distance.cosine(first, second))
    assert cosine(first, factor * second) == pytest.approx(cosine(first, second))


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_ten_times_the_noise_is_ten_decibels_less(signal: float, noise: float) -> None:
    assert signal_to_noise_db(signal, 10 * noise) == pytest.approx(signal_to_noise_db(signal, noise) - 10)
