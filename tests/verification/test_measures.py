"""Statistics against values worked out elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dualexport.verification.measures import (
    PairedTest,
    cosine,
    kl_divergence,
    log_softmax,
    mcnemar_exact,
    signal_to_noise_db,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # R. G. Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_wilson_intervals_are_the_published_ones(count: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [
        (0, 0, 1.0),
        (1, 1, 1.0),
        (0, 5, 2 / 2**5),
        (5, 0, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        (4, 10, 0.179565),  # binom_test(4, 14)
        (2, 12, 0.012939),
    ],
)
def test_mcnemar_counts_tosses_of_a_coin(lost: int, gained: int, p_value: float) -> None:
    assert mcnemar_exact(lost, gained) == pytest.approx(p_value, abs=1e-6)


def test_mcnemar_takes_whole_validation_sets() -> None:
    assert mcnemar_exact(1000, 1100) == pytest.approx(0.0307, abs=5e-4)  # normal approximation: z = 99 / sqrt(2100)
    assert mcnemar_exact(5000, 9000) < 1e-200


def test_three_tenths_of_a_point_on_200_clips_are_no_fact() -> None:
    assert not PairedTest(3, 2, 0.005, mcnemar_exact(3, 2)).is_significant
    assert PairedTest(9, 1, 0.04, mcnemar_exact(9, 1)).is_significant


def test_divergence_of_two_coins() -> None:
    reference, logits = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(reference, logits) == pytest.approx([expected])
    assert kl_divergence(reference, reference + 7) == pytest.approx([0.0])


def test_log_softmax_holds_logits_of_any_size() -> None:
    assert log_softmax(np.array([1e4, 0.0])) == pytest.approx([0.0, -1e4])
    assert np.exp(log_softmax(np.array([1.0, 2.0, 3.0]))).sum() == pytest.approx(1.0)


def test_cosine_of_rows() -> None:
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    others = np.array([[0.0, 2.0], [2.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    assert cosine(rows, others) == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert np.isnan(cosine(rows[0], np.array([np.nan, 0.0])))


def test_signal_to_noise() -> None:
    assert signal_to_noise_db(100.0, 1.0) == pytest.approx(20.0)
    assert signal_to_noise_db(1.0, 0.0) == math.inf
    assert signal_to_noise_db(0.0, 1.0) == -math.inf
    assert math.isnan(signal_to_noise_db(1.0, math.nan))
