"""The part of a verification's document that says how a threshold parts the clips that show a class."""

from __future__ import annotations

import msgspec


class ThresholdPoint(msgspec.Struct, frozen=True):
    """Precision and recall of a class that is taken to be there from a probability of `threshold` on."""

    threshold: float
    precision: float | None
    recall: float


class ClassThresholds(msgspec.Struct, frozen=True):
    """Class `index`, which `clips` labelled clips show: the threshold of best F1, and all at which a figure changes."""

    index: int
    clips: int
    suggested: float
    f1: float
    precision: float
    recall: float
    points: tuple[ThresholdPoint, ...]

    def at(self, threshold: float) -> ThresholdPoint:
        """The figures at a threshold of at least that of the first point."""
        return next(point for point in reversed(self.points) if point.threshold <= threshold)


class Thresholds(msgspec.Struct, frozen=True):
    """Thresholds that labelled clips suggest by class, and as the TOML file that `stream --thresholds` reads."""

    classes: tuple[ClassThresholds, ...]
    toml: str
