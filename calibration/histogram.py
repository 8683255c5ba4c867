"""Statistics of what flows into a linear layer, in memory that does not grow with the number of clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.types import Array

BINS = 2048
WAITING_ROWS = 512  # multiplied at once: few large products take less time than many small ones
_FIRST_LIMIT = 2.0**-40  # where the histogram of a tensor starts that has been nothing but zeros so far


class InputObserver:
    """Magnitudes of a tensor (rows, channels) in a histogram, its exact extremes, and its channels' second moments.

    The histogram has equal bins from zero to `limit`. A value beyond it doubles the limit and merges bins in pairs,
    which loses nothing but resolution, so that one pass over the clips is enough.
    """

    def __init__(self, channels: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = _FIRST_LIMIT
        self.low = np.inf
        self.high = -np.inf
        self._products: NDArray[np.float32] = np.zeros((channels, channels), np.float32)
        self._rows = 0
        self._waiting: list[Array] = []

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def moments(self) -> NDArray[np.float64]:
        """E[x x^T] over rows: (channels, channels)."""
        self._multiply()
        return self._products.astype(np.float64) / max(self._rows, 1)

    def add(self, rows: Array, low: float, high: float, moment_rows: int) -> None:
        """Count `rows` (a sample of them), of which `moment_rows` enter the second moments.

        `low` and `high` are the extremes of all rows, finite.
        """
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.limit < self.peak:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2.0
        bins = np.abs(rows.ravel())
        bins *= BINS / self.limit
        np.minimum(bins, BINS - 1, out=bins)
        self.counts += np.bincount(bins.astype(np.int32), minlength=BINS)
        self._waiting.append(rows[:: max(1, len(rows) // moment_rows)].copy())
        if sum(map(len, self._waiting)) >= WAITING_ROWS:
            self._multiply()

    def _multiply(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._products += rows.T @ rows
            self._rows += len(rows)
            self._waiting.clear()
