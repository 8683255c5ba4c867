"""From the distribution of a tensor to the range that 8 bits represent; what lies outside is clipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..core.choices import Method
from ..core.errors import QuantizationError
from .histogram import BINS, InputObserver

LEVELS = 127  # of each sign
PERCENTILE = 99.999
SMALLEST_SCALE = 2.0**-14  # the smallest normal half: below it, a scale loses precision, and then is zero
LARGEST_SCALE = 2.0**15


def choose_scale(name: str, observer: InputObserver, method: Method, largest: float = LEVELS) -> float:
    """The scale of the tensor `name`: magnitudes up to `largest` times it are represented. Exact in half precision.

    Raises QuantizationError for a tensor without a range, or with one that no scale holds.
    """
    if not observer.peak > 0.0:
        raise QuantizationError(
            f"{name} was zero on all clips: it has no range", fix="calibrate on clips that show something"
        )
    limit = _LIMITS[method](observer)
    if limit / largest > LARGEST_SCALE:
        raise QuantizationError(f"{name} reaches {limit:.3g}, beyond 8 bits and half precision", fix="keep it in FP32")
    return round_scale(limit / largest)


def round_scale(scale: float) -> float:
    """The nearest scale that half precision holds as a normal number, so never zero."""
    return float(np.float16(max(scale, SMALLEST_SCALE)))


def _limit_max(observer: InputObserver) -> float:
    return observer.peak


def _limit_percentile(observer: InputObserver) -> float:
    """The magnitude that PERCENTILE of the values do not exceed."""
    reached = np.cumsum(observer.counts) / observer.counts.sum()
    bin_ = int(np.searchsorted(reached, PERCENTILE / 100.0))
    return min(observer.peak, observer.limit * (bin_ + 1) / BINS)


def _limit_mse(observer: InputObserver) -> float:
    """The limit with the smallest mean squared error: a step's rounding inside it, the distance to it outside."""
    values = (np.arange(BINS) + 0.5) * (observer.limit / BINS)
    limits = observer.peak * np.linspace(0.1, 1.0, 91)

    def error(limit: float) -> float:
        step = limit / LEVELS
        rounding = np.where(values < step / 2, values**2, step**2 / 12)
        return float(observer.counts @ np.where(values > limit, (values - limit) ** 2, rounding))

    return float(min(limits, key=error))


def _limit_entropy(observer: InputObserver) -> float:
    """The limit whose 128 levels tell least wrong of the distribution (Kullback-Leibler), as TensorRT 8 chose it."""
    used = int(np.ceil(observer.peak / observer.limit * BINS))
    step = max(1, used // 128)
    ends = range(min(used, LEVELS + 1), used + 1, step)
    return float(observer.limit * min(ends, key=lambda end: _divergence(observer.counts, end)) / BINS)


def _divergence(counts: NDArray[np.int64], end: int) -> float:
    """Of the first `end` bins, what is beyond them in the last, to the same in 128 equal levels."""
    kept = counts[:end].astype(np.float64)
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    level = np.arange(end) * (LEVELS + 1) // end
    filled = kept > 0
    totals = np.bincount(level, kept, LEVELS + 1)
    occupied = np.bincount(level, filled.astype(np.float64), LEVELS + 1)
    spread = np.where(filled, totals[level] / np.maximum(occupied[level], 1.0), 0.0)
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1.0)
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))).sum())


_LIMITS: dict[Method, Callable[[InputObserver], float]] = {
    Method.ENTROPY: _limit_entropy,
    Method.PERCENTILE: _limit_percentile,
    Method.MSE: _limit_mse,
    Method.MAX: _limit_max,
}
