"""Frames of a source that goes on, decoded by FFmpeg; only those that a window will use are converted and resized."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import cv2
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .addresses import PROTOCOLS, Source
from .pacing import Pace, Paced, Pacer
from .preprocess import Frame
from .video import OPTIONS, require_decodable, to_upright

BELOW = ",".join((*PROTOCOLS, "tls", "httpproxy", "crypto", "srtp"))  # and what these stand on; never a local file
LAST_SECONDS = 1.0  # of a file at an address: a connection that ends there has ended with it
DECODER_ERRORS = (av.error.FFmpegError, OSError, ValueError, ArithmeticError, cv2.error)


class FfmpegFrames:
    """Iterates over a source's kept frames, upright uint8 RGB (size, size, 3), once.

    `count` is the number of frames that came so far, `has_end` true for a file, and for one at an address when all of
    it came. Raises DECODER_ERRORS; `describe` says in words what they mean. A file is waited for as long as it takes.
    """

    def __init__(self, source: Source, size: int, pace: Pace, timeout_seconds: float) -> None:
        self.has_end = not source.is_live
        self._source = source
        self._size = size
        self._timeout_seconds = timeout_seconds
        self._pacer = Pacer[VideoFrame](pace)

    @property
    def count(self) -> int:
        return self._pacer.count

    def __iter__(self) -> Iterator[Paced[Frame]]:
        with open_source(self._source, self._timeout_seconds) as (container, stream):
            first: float | None = None
            stream.thread_type = "SLICE" if self._source.is_live else "AUTO"  # frame threads hold frames back
            if self._source.is_live and stream.codec_context.name == "h264":
                # A camera that repeats its parameter sets before every slice has its pictures cut up by the parser.
                stream.codec_context.options = {"flags2": "+chunks"}
            for frame in container.decode(stream):
                seconds = time.monotonic() if frame.time is None else frame.time
                first = seconds if first is None else first
                if self._source.is_live and container.duration:
                    self.has_end = seconds - first > container.duration / av.time_base - LAST_SECONDS
                for kept in self._pacer.take(seconds, frame):
                    yield Paced(kept.number, kept.seconds, to_upright(kept.picture, self._size))

    def describe(self, error: Exception) -> str:
        return describe_error(error, self._timeout_seconds)

    def close(self) -> None:
        """Leave a read that is under way to its time limit."""


@contextmanager
def open_source(source: Source, timeout_seconds: float) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, whose frames are of a size that is read."""
    name, arguments = _open_arguments(source, timeout_seconds)
    with av.open(name, **arguments) as container:
        if not container.streams.video:
            raise av.error.InvalidDataError(0, "it has no video")
        stream = container.streams.video[0]
        require_decodable(stream)
        yield container, stream


def describe_error(error: Exception, timeout_seconds: float) -> str:
    """One of DECODER_ERRORS in words."""
    if isinstance(error, av.error.ExitError):  # what interrupts a read that takes too long
        return f"no frame came for {timeout_seconds:g} s"
    return getattr(error, "strerror", None) or str(error)


def _open_arguments(source: Source, timeout_seconds: float) -> tuple[str, dict[str, Any]]:
    """PyAV's arguments: a camera's device for its number; network cameras over TCP, which loses no packets."""
    if source.device is not None:
        return source.device, {"format": "v4l2"}
    if not source.is_live:
        return f"file:{source.path}", {"options": OPTIONS}
    options = {"protocol_whitelist": BELOW}
    if source.address.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    return source.address, {"timeout": timeout_seconds, "options": options}
