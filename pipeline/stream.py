"""Sources that go on, classified window by window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from ..clips.addresses import Source
from ..clips.camera import StreamOptions, Window
from ..clips.live import Ended, LiveWindows
from ..core.errors import MissingDependencyError, OptionError
from ..core.reporter import Notify, no_notes
from ..core.runner import Runner
from ..core.types import Array, Clip, Preprocessing
from .classify import infer_probabilities, name_classes

NEWEST = 4096  # windows of a camera whose latencies are kept
QUANTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The class of one window of a camera.

    `frame` counts the source's frames to the window's end; its first and last frame are at `start_seconds` and
    `end_seconds`. `latency_ms` is the time from the window's last frame being there to its class, `dropped` the
    camera's frames that no window has looked at so far. `probabilities` are those of all classes.
    """

    camera: str
    frame: int
    label: str
    probability: float
    latency_ms: float
    dropped: int
    start_seconds: float
    end_seconds: float
    probabilities: Array = field(repr=False)


@dataclass(frozen=True, slots=True)
class CameraSummary:
    """Counts of one camera, and quantiles of the latencies of its newest windows, None where there were none."""

    camera: str
    frames: int
    windows: int
    dropped: int
    reopened: int
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None


class LiveStream:
    """Cameras through one runner: a context manager to iterate over, sightings and ends of cameras as they come.

    Windows of different cameras share the runner's batch. Raises StreamError when all have ended, and one of them
    otherwise than a file does.
    """

    def __init__(
        self,
        runner: Runner,
        sources: Sequence[Source],
        preprocessing: Preprocessing,
        options: StreamOptions,
        labels: Sequence[str] = (),
        notify: Notify = no_notes,
    ) -> None:
        self._runner = runner
        self.labels = name_classes(runner, labels)
        self._preprocessing = preprocessing
        self._windows = LiveWindows(sources, preprocessing, options, notify, runner.inputs[0].shape[0])
        self._tallies = {source.name: _CameraTally() for source in sources}

    def __enter__(self) -> LiveStream:
        self._windows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._windows.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Sighting | Ended]:
        for gathered in self._windows:
            if isinstance(gathered, Ended):
                yield gathered
                continue
            clips = [Clip(window.camera, 0, window.frames, self._preprocessing) for window in gathered]
            answered = zip(gathered, infer_probabilities(self._runner, clips), strict=True)
            yield from [self._count(window, probabilities) for window, probabilities in answered]

    def summarize(self) -> tuple[CameraSummary, ...]:
        """Counts and latencies by camera, so far."""
        return tuple(
            self._tallies[camera.source.name].summarize(camera.source.name, camera.count, max(0, camera.opened - 1))
            for camera in self._windows.cameras
        )

    def serve_metrics(self, address: str) -> AbstractContextManager[int]:
        """Counts and latencies for Prometheus while the context lasts, at PORT of this machine only or at HOST:PORT.

        Gives the port. Raises OptionError, StreamError where the port is taken, and MissingDependencyError.
        """
        host, _, port = address.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise OptionError(f"{address!r} is no port", fix="give PORT, or HOST:PORT to be reached from elsewhere")
        try:
            from .stream_metrics import serve_metrics
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "--metrics needs prometheus_client, which is not installed", fix='pip install "dualexport[metrics]"'
            ) from error
        return serve_metrics(self.summarize, host or "127.0.0.1", int(port))

    def _count(self, window: Window, probabilities: Array) -> Sighting:
        best = int(probabilities.argmax())
        seen = Sighting(
            window.camera,
            window.end,
            self.labels[best],
            float(probabilities[best]),
            (time.monotonic() - window.arrived) * 1e3,
            window.dropped,
            window.start_seconds,
            window.end_seconds,
            probabilities,
        )
        self._tallies[seen.camera].add(seen)
        return seen


@dataclass(slots=True)
class _CameraTally:
    """Running counts of a camera, of bounded size."""

    windows: int = 0
    dropped: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST))

    def add(self, seen: Sighting) -> None:
        self.windows += 1
        self.dropped = seen.dropped
        self.latencies_ms.append(seen.latency_ms)

    def summarize(self, name: str, frames: int, reopened: int) -> CameraSummary:
        newest = list(self.latencies_ms)
        quantiles = map(float, np.percentile(newest, QUANTILES)) if newest else (None, None, None)
        return CameraSummary(name, frames, self.windows, self.dropped, reopened, *quantiles)
