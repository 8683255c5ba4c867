"""Axes of charts: the pixel of a value, and the round numbers that have ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values from `low` to `high` to pixels from `start` to `end`, on a logarithmic scale if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; values beyond the axis stay at its end."""
        low, high, value = (self._scale(number) for number in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    @property
    def ticks(self) -> tuple[float, ...]:
        """About five round numbers inside the axis; whole powers of ten on a logarithmic one."""
        if not self.log:
            return round_numbers(self.low, self.high)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        step = max(1, math.ceil((last - first) / 5))
        return tuple(10.0**power for power in range(first, last + 1, step))

    def _scale(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def linear_axis(values: list[float], start: float, end: float, *, from_zero: bool = False) -> Axis:
    """An axis with a little room around finite `values`."""
    low, high = (0.0 if from_zero else min(values)), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return Axis(low if from_zero else low - room, high + room, start, end)


def log_axis(values: list[float], start: float, end: float) -> Axis:
    """A logarithmic axis of whole powers of ten around positive `values`."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(10.0**low, 10.0 ** max(high, low + 1), start, end, log=True)


def round_numbers(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    if not high > low:
        return (low,)
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = magnitude * min((factor for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999), default=10)
    first = math.ceil(low / step - 1e-9)
    return tuple(number * step for number in range(first, math.floor(high / step + 1e-9) + 1))
