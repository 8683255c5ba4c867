"""Measures of agreement between two runs of a network, and how sure a count of clips makes one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.types import Array

NORMAL_QUANTILE = 1.959963984540054  # of 0.975: two-sided 95%


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, as a share with its 95% Wilson interval from `low` to `high`."""

    count: int
    total: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """The share of `count` in `total`, which is at least one."""
        return cls(count, total, count / total, *wilson_interval(count, total))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The same labelled videos through two networks: McNemar's exact test of whether one is right more often.

    `lost` are videos that only the reference classified correctly, `gained` those that only the artifact did;
    `drop` is the accuracy lost, as a share of all videos. `p_value` is two-sided: how often chance alone would part
    the `lost` and `gained` videos at least as unevenly.
    """

    lost: int
    gained: int
    drop: float
    p_value: float

    @property
    def is_significant(self) -> bool:
        return self.p_value < 0.05


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """95% interval of a share, `count` of `total` (E. B. Wilson, 1927): it stays inside 0..1, and is no point."""
    share, z2 = count / total, NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return (0.0 if count == 0 else centre - reach, 1.0 if count == total else centre + reach)


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p-value of McNemar's exact test: `lost` against `gained` as tosses of a fair coin."""
    tosses, fewer = lost + gained, min(lost, gained)
    ways, term = 0, 1
    for heads in range(fewer + 1):
        ways += term
        term = term * (tosses - heads) // (heads + 1)  # the next binomial coefficient
    return min(1.0, 2 * ways / (1 << tosses))


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def kl_divergence(reference: Array, logits: Array) -> Array:
    """Kullback-Leibler divergence of softmax(`logits`) from softmax(`reference`), in nats, a figure a row."""
    expected, got = log_softmax(reference), log_softmax(logits)
    divergence: Array = (np.exp(expected) * (expected - got)).sum(axis=-1)
    return divergence


def cosine(reference: Array, values: Array) -> Array:
    """Cosine of the angle between the rows of two arrays; 1 for two rows of zeros, 0 where only one is."""
    first, second = reference.astype(np.float64), values.astype(np.float64)
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    both_zero = ~first.any(axis=-1) & ~second.any(axis=-1)
    angle: Array = np.where(norms == 0, both_zero, (first * second).sum(axis=-1) / np.where(norms == 0, 1, norms))
    return angle


def signal_to_noise_db(signal: float, noise: float) -> float:
    """Ratio of two sums of squares in dB: infinite without noise, NaN where either is not a number."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and math.isfinite(noise) else -math.inf


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
