"""Answers of overlapping windows, merged into spans of time in which a camera shows a class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ..core.class_names import find_class
from ..core.errors import LimitError
from ..core.reading import FileKind
from ..core.types import Array

Share = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
EXAMPLE = 'threshold = 0.6, and below a line [classes] "moving left" = 0.8'
RULES = FileKind("a TOML file of thresholds", LimitError, f"write it like this: {EXAMPLE}", max_bytes=1 << 20)


class SpanRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time in which a class is there.

    A span begins with a window that gives its class at least the `threshold` (by class name in `classes`) and goes on
    while windows give it at least that less the share `hysteresis` of it. Shorter ones than `min_seconds` are left out.
    """

    threshold: Share = 0.5
    hysteresis: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.2
    min_seconds: Annotated[float, msgspec.Meta(ge=0.0, le=86400.0)] = 0.0
    classes: dict[str, Share] = {}


@dataclass(frozen=True, slots=True)
class Span:
    """A class that a camera showed from one second to another; `confidence` is the mean of its windows' probability."""

    camera: str
    label: str
    start_seconds: float
    end_seconds: float
    confidence: float
    windows: int


def read_rules(path: Path | None, given: Mapping[str, float | None] | None = None) -> SpanRules:
    """Rules of a TOML file, or the defaults; what else is `given` by name goes before. Raises LimitError."""
    rules = SpanRules()
    if path is not None:
        try:
            rules = msgspec.toml.decode(RULES.read_text(path), type=SpanRules)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RULES.refuse(path, str(error).replace("`", "")) from error
    return msgspec.structs.replace(rules, **{name: value for name, value in (given or {}).items() if value is not None})


def write_rules(thresholds: Mapping[int, float], labels: Sequence[str]) -> str:
    """A TOML file of thresholds by class number, with the classes' names where there are some and each has its own."""
    names = {index: labels[index] if index < len(labels) else "" for index in thresholds}
    keys = {index: name if labels.count(name) == 1 else str(index) for index, name in names.items()}
    lines = (f"{json.dumps(keys[index], ensure_ascii=False)} = {value:g}" for index, value in thresholds.items())
    return "\n".join(("[classes]", *lines, ""))


class SpanMerger:
    """Windows of one camera in, in the order of their ends; spans out, when they have ended.

    Windows that give a class its threshold and overlap are one span; so are two that follow one another with a hole
    between them that is no longer than a window.
    """

    def __init__(self, camera: str, labels: Sequence[str], rules: SpanRules) -> None:
        self._camera = camera
        self._labels = labels
        self._rules = rules
        self._upper = np.full(len(labels), rules.threshold)
        for name, threshold in rules.classes.items():
            self._upper[find_class(name, labels, len(labels))] = threshold
        self._lower = self._upper * (1.0 - rules.hysteresis)
        self._open: dict[int, _OpenSpan] = {}

    def add(self, start: float, end: float, probabilities: Array) -> list[Span]:
        """The spans that have ended before a window that gives these probabilities of all classes."""
        ended: list[Span] = []
        for index, span in list(self._open.items()):
            if start > span.end + (end - start if span.goes_on else 0.0):
                ended += self._close(index)
            elif probabilities[index] >= (self._lower if span.goes_on else self._upper)[index]:
                span.extend(end, float(probabilities[index]))
            else:
                span.goes_on = False
        for index in np.flatnonzero(probabilities >= self._upper).tolist():
            if index not in self._open:
                self._open[index] = _OpenSpan(start, end, float(probabilities[index]))
        return sorted(ended, key=lambda span: span.end_seconds)

    def finish(self) -> list[Span]:
        """The spans that had not ended yet."""
        left = [span for index in list(self._open) for span in self._close(index)]
        return sorted(left, key=lambda span: span.end_seconds)

    def _close(self, index: int) -> Iterator[Span]:
        span = self._open.pop(index)
        if span.end - span.start >= self._rules.min_seconds:
            confidence = span.total / span.windows
            yield Span(self._camera, self._labels[index], span.start, span.end, confidence, span.windows)


@dataclass(slots=True)
class _OpenSpan:
    """A span that may go on; after a window that did not show its class only its threshold takes it up again."""

    start: float
    end: float
    total: float
    windows: int = 1
    goes_on: bool = True

    def extend(self, end: float, probability: float) -> None:
        self.end = end
        self.total += probability
        self.windows += 1
        self.goes_on = True
