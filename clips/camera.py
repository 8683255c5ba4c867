"""One source that goes on, decoded in a thread of its own into windows of its newest frames."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..core.choices import Decoder
from ..core.errors import DualExportError, StreamError
from ..core.reporter import Notify
from ..core.types import Array, Preprocessing
from .addresses import Source
from .ffmpeg_frames import DECODER_ERRORS, FfmpegFrames
from .gstreamer import is_chosen
from .gstreamer_frames import GStreamerFrames
from .pacing import Pace, Paced
from .preprocess import Frame, sample_frames
from .ring import FrameRing

RETRY_SECONDS = 1.0
ENDED = "it ended"
LASTING_SECONDS = 600.0  # a source that delivered for so long is one that goes on, though its connections end


class Frames(Protocol):
    """A source that was opened once: its kept frames, and how many came. `has_end` is true for a file."""

    has_end: bool

    @property
    def count(self) -> int: ...
    def __iter__(self) -> Iterator[Paced[Frame]]: ...
    def describe(self, error: Exception) -> str: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The pace of windows, and how long a live source is waited for.

    `every`: frames from one window to the next. `timeout_seconds`: how long a live source may deliver nothing.
    `retries`: how often it is opened again before that is an error. `fps`: frames a second that windows are made of,
    whatever the source delivers; None takes its frames as they come. `max_delay_seconds`: how long a window may wait
    for those of other cameras, with which it then shares a batch. `decoder`: what decodes.
    """

    every: int
    timeout_seconds: float = 10.0
    retries: int = 3
    fps: float | None = None
    max_delay_seconds: float = 0.1
    decoder: Decoder = Decoder.AUTO


@dataclass(frozen=True, slots=True)
class Window:
    """The newest frames of a camera, uint8 RGB (frames, size, size, 3), which stay as they are.

    `end` counts the source's frames up to the last one here, `dropped` those that no window has looked at so far;
    `arrived` is time.monotonic() when the last one was there, of a file when the window was. The first and the last
    frame are at `start_seconds` and `end_seconds`: of a file from its first frame on, else since 1970 (UTC), by a clock
    that was set at the camera's first frame and does not jump.
    """

    camera: str
    frames: Array
    end: int
    dropped: int
    arrived: float
    start_seconds: float
    end_seconds: float


class Camera:
    """A source, the thread that decodes it, and its next window.

    A file waits until its windows are taken, so none of its frames is dropped. A live source does not: the next window
    is always of the newest frames. `changed` is what all cameras of a stream are guarded by; it is notified when a
    window is ready and when the source ended, with an `error` where it ended otherwise than a file does.
    """

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        options: StreamOptions,
        changed: threading.Condition,
        note: Notify,
    ) -> None:
        self.source = source
        self.error: DualExportError | None = None
        self.has_ended = False
        self.ready_since = 0.0  # time.monotonic() when the window that is ready came up
        self.is_alone = True  # its error is then the stream's; otherwise it is noted, and the others go on
        self.opened = 0
        self._preprocessing = preprocessing
        self._options = options
        self._changed = changed
        self._note = note
        self._span = (preprocessing.frames - 1) * preprocessing.stride + 1
        # A window of a live source may end with any frame, one of a file ends where `every` says.
        self._step = preprocessing.stride if source.is_live else math.gcd(preprocessing.stride, options.every)
        self._between = preprocessing.stride // self._step
        kept = (preprocessing.frames - 1) * self._between + 1
        self._ring = FrameRing(kept, preprocessing.size)
        self._times = deque[float](maxlen=kept)
        self._window: Window | None = None
        self._frames: Frames | None = None
        self._wanted = self._span  # frames that have to be there for the next window
        self._before = 0  # frames that came before the source was opened last
        self._seen = self._dropped = 0
        self._zero_at: float | None = None
        self._arrived = 0.0
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=f"decoder of {source.name}", daemon=True)

    @property
    def count(self) -> int:
        """Frames that came so far."""
        return self._before + (self._frames.count if self._frames else 0)

    @property
    def is_ready(self) -> bool:
        return self._window is not None

    @property
    def is_over(self) -> bool:
        """True for a camera that has ended, and whose last window is taken."""
        return self.has_ended and not self.is_ready

    def is_expected(self, seconds: float) -> bool:
        """True for a camera from which a window may come soon: one that delivered a frame in the last `seconds`."""
        return self.is_ready or (not self.has_ended and time.monotonic() - self._arrived < seconds)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._frames is not None:
            self._frames.close()

    def join(self, seconds: float) -> None:
        self._thread.join(timeout=max(0.0, seconds))

    def take(self) -> Window:
        """The window that is ready; called while `changed` is held."""
        window, self._window = self._window, None
        assert window is not None
        if self.source.is_live:
            self._dropped += max(0, window.end - self._span - self._seen)
            self._wanted = window.end + self._options.every
        self._seen = window.end
        self._changed.notify_all()
        arrived = window.arrived if self.source.is_live else time.monotonic()
        return replace(window, dropped=self._dropped, arrived=arrived)

    def _run(self) -> None:
        try:
            self._read()
        finally:  # whatever ended it, who waits for frames must not wait for ever
            if not self.has_ended:
                self._finish(None if self._is_stopped else "the decoder stopped")

    def _read(self) -> None:
        failures = ends = 0
        while not self._is_stopped:
            reason, started, before = ENDED, time.monotonic(), self.count
            self._frames = frames = self._open(self._step)
            try:
                if not all(map(self._put, frames)):
                    return
                ends = 1 if time.monotonic() - started > LASTING_SECONDS else ends + 1
            except DECODER_ERRORS as error:
                reason = frames.describe(error)
            if self._is_stopped:
                return
            if reason != ENDED and not self.source.is_live:
                self._finish(f"cannot be decoded further: {reason}")
                return
            if reason == ENDED and frames.has_end:
                self._finish_file()
                return
            came = self.count - before
            failures = 1 if came else failures + 1
            replays = ends > self._options.retries + 1  # it ends, and begins anew, for as long as it is opened
            if failures > self._options.retries or replays:
                tried = f"after {came} frames" if came else f"opened {failures} times without a frame"
                self._finish(f"{reason}; {tried}")
                return
            self._wait_to_reopen(f"{reason}; opening it again ({failures} of {self._options.retries})")

    def _open(self, step: int) -> Frames:
        self.opened += 1
        reader = GStreamerFrames if is_chosen(self.source, self._options.decoder) else FfmpegFrames
        pace = Pace(step, self._options.fps)
        return reader(self.source, self._preprocessing.size, pace, self._options.timeout_seconds)

    def _wait_to_reopen(self, reason: str) -> None:
        self._note(f"{self.source.name}: {reason}")
        with self._changed:
            self._before, self._frames = self.count, None
            self._ring.clear()  # a window must not hold frames from before and after the break
            self._times.clear()
            self._changed.wait_for(lambda: self._is_stopped, timeout=RETRY_SECONDS)

    def _put(self, kept: Paced[Frame]) -> bool:
        """Take a frame in; False when no more are wanted."""
        with self._changed:
            now = time.monotonic()
            if self._zero_at is None:
                self._zero_at = now - time.time() if self.source.is_live else kept.seconds
            self._ring.append(kept.picture)
            self._times.append((now if self.source.is_live else kept.seconds) - self._zero_at)
            self._arrived, end = now, self._before + kept.number + 1
            if end >= self._wanted and len(self._ring) == self._times.maxlen:
                self._offer(self._ring.newest(self._between), end)
            return not self._is_stopped

    def _offer(self, frames: Array, end: int) -> None:
        """Have the window taken: of a file after the one before, of a live source in its place."""
        if not self.source.is_live:
            self._changed.wait_for(lambda: self._is_stopped or self._window is None)
            self._wanted = end + self._options.every
        if self._window is None:
            self.ready_since = time.monotonic()
        self._window = Window(self.source.name, frames, end, 0, self._arrived, self._times[0], self._times[-1])
        self._changed.notify_all()

    def _finish_file(self) -> None:
        """Offer the one window of a video shorter than it, which goes round, as in a clip source."""
        try:
            if self._wanted == self._span and self.count:
                short = list(self._open(1))
                clip = self._preprocessing
                (picked,) = sample_frames(len(short), clip.frames, clip.stride, 1)
                with self._changed:
                    self._times.clear()
                    self._times.extend((0.0, short[-1].seconds - short[0].seconds))
                    self._offer(np.stack([short[number].picture for number in picked]), len(short))
        except DECODER_ERRORS as error:
            self._finish(f"cannot be decoded again: {error}")
        else:
            self._finish(None)

    def _finish(self, problem: str | None) -> None:
        with self._changed:
            if problem is not None:
                fix = "check the address and the source, or allow more with --timeout and --retries"
                self.error = StreamError(
                    f"{self.source.name}: {problem}",
                    fix=fix if self.source.is_live else "check that the file plays to its end",
                )
                if not self.is_alone:
                    self._note(f"{self.error}; the other cameras go on")
            self.has_ended = True
            self._changed.notify_all()
