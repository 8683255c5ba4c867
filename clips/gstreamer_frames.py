"""Frames of a source that goes on, decoded and scaled by GStreamer in a process of its own."""

from __future__ import annotations

import fcntl
import os
import selectors
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from .addresses import CSI, Source
from .ffmpeg_frames import describe_error, open_source
from .gstreamer import CSI_RATE, CSI_SIZE, LAUNCH, VideoFacts, build_pipeline, require_gstreamer
from .pacing import Pace, Paced
from .preprocess import Frame
from .video import convert_to_rgb

PIPE_BYTES = 1 << 20
MESSAGE_BYTES = 4096
LEAVING_SECONDS = 5.0


class GStreamerFrames:
    """Iterates over a source's kept frames, uint8 RGB (size, size, 3), once.

    gst-launch-1.0 writes them into a pipe, so that a decoder that hangs or crashes is one that is started again. They
    come as I420 and get the colours that FFmpeg's frames have. The members are those of FfmpegFrames. `count` is in the
    source's frames as far as they are kept.
    """

    def __init__(self, source: Source, size: int, pace: Pace, timeout_seconds: float) -> None:
        self.has_end = not source.is_live or source.is_pipeline
        self.count = 0
        self._source = source
        self._size = size
        self._pace = pace
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def __iter__(self) -> Generator[Paced[Frame]]:
        facts = self._examine()
        pipeline = build_pipeline(self._source, facts, self._pace, self._size, require_gstreamer())
        rate = Fraction(self._pace.fps) if self._pace.fps else facts.rate
        every = self._pace.step if rate else 1  # of the source's frames come out of the pipeline
        for number, frame in enumerate(self._launch(" ! ".join(pipeline))):
            self.count = number * every + 1
            if number * every % self._pace.step == 0:
                seconds = float(number * every / rate) if rate else time.monotonic()
                yield Paced(number * every, seconds, _to_rgb(frame, facts))

    def describe(self, error: Exception) -> str:
        return describe_error(error, self._timeout_seconds)

    def close(self) -> None:
        """End the process, and with it a read that is under way."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()

    def _examine(self) -> VideoFacts:
        """Facts that the pipeline depends on, read by FFmpeg without decoding; none of a camera of this machine."""
        if self._source.protocol == CSI:
            return VideoFacts(width=CSI_SIZE[0], height=CSI_SIZE[1], rate=CSI_RATE)
        if self._source.is_pipeline or self._source.device is not None:
            return VideoFacts()
        with open_source(self._source, self._timeout_seconds) as (container, stream):
            context = stream.codec_context
            return VideoFacts(
                container.format.name,
                context.name,
                context.width,
                context.height,
                stream.average_rate or None,
                context.colorspace,
                context.color_range,
            )

    def _launch(self, pipeline: str) -> Iterator[Frame]:
        reading, writing = os.pipe()
        try:
            with suppress(OSError):
                fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            words = f"{pipeline} ! fdsink fd={writing} sync=false".split(" ")  # are put together again as they were
            with _ended(
                subprocess.Popen(  # noqa: S603  # words are no shell's
                    (LAUNCH, "-q", *words),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(writing,),
                    start_new_session=True,  # Ctrl-C is for us, who end it
                )
            ) as process:
                os.close(writing)
                writing = -1
                self._process = process
                if not self._is_closed:
                    yield from self._read(process, reading)
        finally:
            for descriptor in (reading, writing):
                if descriptor >= 0:
                    os.close(descriptor)

    def _read(self, process: subprocess.Popen[bytes], reading: int) -> Iterator[Frame]:
        """Frames as they come; raises TimeoutError when none does, OSError when the process fails."""
        assert process.stderr is not None
        said = b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(reading, selectors.EVENT_READ)
            waiting.register(process.stderr, selectors.EVENT_READ)
            frame, filled = _empty(self._size), 0
            deadline = time.monotonic() + self._timeout_seconds
            while True:
                ready = [key.fd for key, _ in waiting.select(max(0.0, deadline - time.monotonic()))]
                if not ready:
                    raise TimeoutError(f"no frame came for {self._timeout_seconds:g} s")
                if process.stderr.fileno() in ready:
                    chunk = os.read(process.stderr.fileno(), MESSAGE_BYTES)
                    said = (said + chunk)[:MESSAGE_BYTES]
                    if not chunk:
                        waiting.unregister(process.stderr)
                if reading in ready:
                    count = os.readv(reading, [frame.reshape(-1)[filled:].data])
                    filled += count
                    if not count:
                        break
                    if filled == frame.nbytes:
                        yield frame
                        frame, filled = _empty(self._size), 0
                        deadline = time.monotonic() + self._timeout_seconds
        self._require_success(process, said)

    def _require_success(self, process: subprocess.Popen[bytes], said: bytes) -> None:
        assert process.stderr is not None
        with suppress(subprocess.TimeoutExpired):
            _, rest = process.communicate(timeout=LEAVING_SECONDS)
            said = (said + rest)[:MESSAGE_BYTES]
        if process.returncode and not self._is_closed:
            raise OSError(_first_error(said.decode(errors="replace")) or f"GStreamer ended with {process.returncode}")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def _empty(size: int) -> Frame:
    return np.empty((size * 3 // 2, size), np.uint8)


def _to_rgb(pixels: Frame, facts: VideoFacts) -> Frame:
    """I420 (size * 3 / 2, size) to RGB (size, size, 3), by the conversion that is the published one of whole frames."""
    frame = VideoFrame.from_ndarray(pixels, format="yuv420p")
    frame.colorspace, frame.color_range = facts.colorspace, facts.color_range
    return convert_to_rgb(frame)


def _first_error(said: str) -> str:
    """The first error that gst-launch-1.0 prints, without the element that it comes from."""
    lines = (line for line in said.splitlines() if line.startswith(("ERROR", "WARNING: erroneous")))
    return next(lines, "").partition(": ")[2]
