"""Precision and recall of each class against the threshold of its probability, on labelled clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.types import Array

STEPS = np.arange(1, 100) / 100  # the thresholds that are tried


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """Precision and recall of a class that is taken to be there from a probability of `threshold` on.

    `precision` is None where no clip reaches the threshold.
    """

    threshold: float
    precision: float | None
    recall: float


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """Class `index`, which `clips` of the labelled clips show, at every threshold at which a figure changes.

    `suggested` has the best F1 (harmonic mean of precision and recall): the middle of the longest run of thresholds
    that have it. Its own figures are `f1`, `precision` and `recall`.
    """

    index: int
    clips: int
    suggested: float
    f1: float
    precision: float
    recall: float
    points: tuple[ThresholdPoint, ...]


class ThresholdTally:
    """Counts of clips by class and probability: of a fixed size, however many clips there are."""

    def __init__(self) -> None:
        self._all = self._shown = np.zeros((0, 0), np.int64)

    def add(self, probabilities: Array, label: int) -> None:
        """Count one clip of class `label`, (classes,) probabilities; one that is not a number reaches no threshold."""
        if not self._all.size:
            self._all = np.zeros((len(probabilities), len(STEPS) + 1), np.int64)  # by the number of thresholds reached
            self._shown = np.zeros_like(self._all)
        reached = np.searchsorted(STEPS, np.nan_to_num(probabilities), side="right")
        self._all[np.arange(len(reached)), reached] += 1
        self._shown[label, reached[label]] += 1

    def report(self) -> tuple[ClassThresholds, ...]:
        """The classes that labelled clips show; the others say nothing about a threshold."""
        return tuple(
            _fit(int(index), _count_from(self._all[index]), _count_from(shown), int(shown.sum()))
            for index, shown in enumerate(self._shown)
            if shown.any()
        )


def _count_from(counts: Array) -> Array:
    """The number of clips that reach each threshold."""
    reached: Array = counts[::-1].cumsum()[::-1][1:]
    return reached


def _fit(index: int, found: Array, right: Array, clips: int) -> ClassThresholds:
    """From the numbers of clips that reach each threshold, and of those among them that show the class."""
    f1 = 2 * right / (found + clips)  # the harmonic mean of right / found and right / clips
    best = _middle_of_longest_run(f1 == f1.max())
    points = tuple(
        ThresholdPoint(float(STEPS[place]), _divide(right[place], found[place]), float(right[place] / clips))
        for place in range(len(STEPS))
        if place == 0 or (found[place], right[place]) != (found[place - 1], right[place - 1])
    )
    return ClassThresholds(
        index,
        clips,
        float(STEPS[best]),
        float(f1[best]),
        _divide(right[best], found[best]) or 0.0,
        float(right[best] / clips),
        points,
    )


def _divide(right: int, found: int) -> float | None:
    return float(right / found) if found else None


def _middle_of_longest_run(chosen: Array) -> int:
    """The place in the middle of the longest run of true values; of equally long ones, of the first."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], chosen.astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest] - 1) // 2
