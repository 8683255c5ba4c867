"""A source that goes on, classified window by window."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..clips.live import LiveWindows, StreamOptions
from ..core.reporter import Notify, no_notes
from ..core.runner import Runner
from ..core.types import Clip, Preprocessing
from .classify import infer_probabilities, name_classes


@dataclass(frozen=True, slots=True)
class Sighting:
    """The class of one window. `latency_ms` is the time from the window's last frame being there to its class."""

    frame: int
    label: str
    probability: float
    latency_ms: float
    dropped: int


def stream(
    runner: Runner,
    source: str,
    preprocessing: Preprocessing,
    options: StreamOptions,
    labels: Sequence[str] = (),
    *,
    notify: Notify = no_notes,
) -> Iterator[Sighting]:
    """Classify windows of `source` as long as it goes on; raises StreamError when it breaks off for good."""
    names = name_classes(runner, labels)
    with LiveWindows(source, preprocessing, options, notify) as windows:
        for window in windows:
            probabilities = infer_probabilities(runner, [Clip(source, 0, window.frames, preprocessing)])[0]
            best = int(probabilities.argmax())
            latency_ms = (time.monotonic() - window.arrived) * 1e3
            yield Sighting(window.end, names[best], float(probabilities[best]), latency_ms, window.dropped)
