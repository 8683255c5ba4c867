"""A source that goes on, as a sliding window of frames: a file, a camera, or a network stream."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from ..core.errors import DualExportError
from ..core.reading import FileKind
from ..core.types import Array, Preprocessing
from .preprocess import Frame, sample_frames
from .video import OPTIONS, require_size, to_upright

RETRY_SECONDS = 1.0
ENDED = "it ended"
LASTING_SECONDS = 600.0  # a source that delivered for so long is one that goes on, though its connections end
PROTOCOLS = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https")
BELOW = ",".join((*PROTOCOLS, "tls", "httpproxy", "crypto", "srtp"))  # and what these stand on; never a local file
ADDRESS = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]*)://")
CAMERA = re.compile(r"/dev/video\d+")


class StreamError(DualExportError):
    """A live source that cannot be opened, stalls or broke off, and did not come back."""


class StreamNotFoundError(StreamError, FileNotFoundError):
    """A video file that is not there."""


FILE = FileKind(
    "a video file",
    StreamError,
    "give a video, a camera's number, or an address",
    max_bytes=1 << 44,
    missing=StreamNotFoundError,
)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The pace of windows, and how long a live source is waited for.

    `every`: frames from one window to the next. `timeout_seconds`: how long a live source may deliver nothing.
    `retries`: how often it is opened again before that is an error.
    """

    every: int
    timeout_seconds: float = 10.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The newest frames, uint8 RGB (frames, size, size, 3).

    `end` counts the source's frames up to the last one here, `dropped` those that no window has looked at so far;
    `arrived` is time.monotonic() when the last one was there, of a file when the window was.
    """

    frames: Array
    end: int
    dropped: int
    arrived: float


def is_live(source: str) -> bool:
    """True where a source does not wait: a camera's number or device, or an address other than a file's."""
    return source.isdigit() or bool(CAMERA.fullmatch(source)) or bool(ADDRESS.match(source))


def require_source(source: str) -> None:
    """Raise StreamError for what is no video file, or an address of a protocol that is not read.

    A camera or an address that does not answer shows only when it is opened.
    """
    if address := ADDRESS.match(source):
        if address[1].lower() not in PROTOCOLS:
            known = ", ".join(f"{name}://" for name in PROTOCOLS)
            raise StreamError(f"{source}: {address[1]}:// is not read", fix=f"give a file, a camera, or {known}")
    elif not is_live(source):
        FILE.require(_local(source))


def _local(source: str) -> Path:
    return Path(source.removeprefix("file://").removeprefix("file:") if source.startswith("file:") else source)


class LiveWindows:
    """Windows of a source, decoded in a thread of its own: a context manager to iterate over.

    A file waits until its windows have been taken, so none of its frames is dropped. A live source does not: the next
    window is always of the newest frames. Raises StreamError when the source ends otherwise than a file does.
    """

    def __init__(
        self,
        source: str,
        preprocessing: Preprocessing,
        options: StreamOptions,
        tell: Callable[[str], None],
    ) -> None:
        self._source = source
        self._preprocessing = preprocessing
        self._options = options
        self._tell = tell
        self._live = is_live(source)
        self._span = (preprocessing.frames - 1) * preprocessing.stride + 1
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque(maxlen=self._span if self._live else None)
        self._count = 0  # frames that came
        self._first = 0  # number of the first frame that a window may hold, after a break
        self._arrived = 0.0
        self._ended = self._stopped = self._has_end = False
        self._error: DualExportError | None = None
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)

    def __enter__(self) -> LiveWindows:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=self._options.timeout_seconds + RETRY_SECONDS)

    def __iter__(self) -> Iterator[Window]:
        end, dropped, seen = 0, 0, 0
        while True:
            wanted = max(self._span, end + self._options.every)
            with self._changed:
                self._changed.wait_for(partial(self._is_ready, wanted))
                full = self._is_full(wanted)
                if not full and self._error is not None:
                    raise self._error
                if not full and (seen or not self._frames):
                    return
                end = self._count if self._live or not full else wanted
                window = self._take(end)
                dropped += max(0, end - self._span - seen) if self._live else 0
                seen = end
                self._changed.notify_all()
            yield Window(window.frames, end, dropped, window.arrived)
            if not full:
                return

    def _is_ready(self, wanted: int) -> bool:
        return self._ended or self._is_full(wanted)

    def _is_full(self, wanted: int) -> bool:
        return self._count >= wanted and self._count - self._first >= self._span

    def _take(self, end: int) -> Window:
        """The window that ends before frame `end`; a video shorter than a window goes round, as in a clip source."""
        available = list(self._frames)[: end - self._count or None]
        clip = self._preprocessing
        if len(available) < self._span:
            (picked,) = sample_frames(len(available), clip.frames, clip.stride, 1)
            frames = [available[number] for number in picked]
        else:
            frames = available[-self._span :: clip.stride]
        if not self._live:
            for _ in range(end + self._options.every - self._span - (self._count - len(self._frames))):
                if self._frames:
                    self._frames.popleft()
        return Window(np.stack(frames), end, 0, self._arrived if self._live else time.monotonic())

    def _run(self) -> None:
        try:
            self._read()
        finally:  # whatever ended it, who waits for frames must not wait for ever
            if not self._ended:
                self._finish(f"{self._source}: the decoder stopped")

    def _read(self) -> None:
        failures = ends = 0
        while not self._stopped:
            before, reason, started = self._count, ENDED, time.monotonic()
            try:
                for frame in self._decode():
                    if not self._put(frame):
                        return
                ends = 1 if time.monotonic() - started > LASTING_SECONDS else ends + 1
            except (av.error.FFmpegError, OSError, ValueError, ArithmeticError, cv2.error) as error:
                reason = _describe(error, self._options.timeout_seconds)
                if not self._live:
                    self._finish(f"{self._source}: cannot be decoded further: {reason}")
                    return
            if not self._live or (reason == ENDED and self._has_end):
                self._finish(None)
                return
            failures = 1 if self._count > before else failures + 1
            replays = ends > self._options.retries + 1  # it ends, and begins anew, for as long as it is opened
            if failures > self._options.retries or replays:
                came = self._count - before
                tried = f"after {came} frames" if came else f"opened {failures} times without a frame"
                self._finish(f"{self._source}: {reason}; {tried}")
                return
            self._tell(f"{self._source}: {reason}; opening it again ({failures} of {self._options.retries})")
            with self._changed:
                self._first = self._count  # a window must not hold frames from before and after the break
                self._frames.clear()
                self._changed.wait_for(lambda: self._stopped, timeout=RETRY_SECONDS)

    def _decode(self) -> Iterator[Frame]:
        name, arguments = _open_arguments(self._source, self._options.timeout_seconds if self._live else None)
        with av.open(name, **arguments) as container:
            if not container.streams.video:
                raise av.error.InvalidDataError(0, "it has no video")
            stream = container.streams.video[0]
            require_size(stream.codec_context.width, stream.codec_context.height)
            self._has_end = bool(container.duration)  # a file at an address: opened again, it would begin again
            stream.thread_type = "SLICE" if self._live else "AUTO"  # frame threads hold frames back
            for frame in container.decode(stream):
                yield to_upright(frame, self._preprocessing.size)

    def _put(self, frame: Frame) -> bool:
        with self._changed:
            if not self._live:
                room = self._span + self._options.every
                self._changed.wait_for(lambda: self._stopped or len(self._frames) < room)
            self._frames.append(frame)
            self._count += 1
            self._arrived = time.monotonic()
            self._changed.notify_all()
            return not self._stopped

    def _finish(self, problem: str | None) -> None:
        with self._changed:
            if problem is not None:
                fix = "check the address and the source, or allow more with --timeout and --retries"
                self._error = StreamError(problem, fix=fix if self._live else "check that the file plays to its end")
            self._ended = True
            self._changed.notify_all()


def _open_arguments(source: str, timeout_seconds: float | None) -> tuple[str, dict[str, Any]]:
    """PyAV's arguments: a camera's device for its number; network cameras over TCP, which loses no packets."""
    if source.isdigit() or CAMERA.fullmatch(source):
        return f"/dev/video{source}" if source.isdigit() else source, {"format": "v4l2"}
    if not is_live(source):
        return f"file:{_local(source)}", {"options": OPTIONS}
    arguments: dict[str, Any] = {} if timeout_seconds is None else {"timeout": timeout_seconds}
    arguments["options"] = {"protocol_whitelist": BELOW}
    if source.lower().startswith("rtsp"):
        arguments["options"]["rtsp_transport"] = "tcp"
    return source, arguments


def _describe(error: Exception, timeout_seconds: float) -> str:
    if isinstance(error, av.error.ExitError):  # what interrupts a read that takes too long
        return f"no frame came for {timeout_seconds:g} s"
    return getattr(error, "strerror", None) or str(error)
