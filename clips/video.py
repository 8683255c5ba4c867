"""Decodes chosen frames of a video with PyAV, seeking over what is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..core.errors import ClipError, ClipNotFoundError, DualExportError
from ..core.reading import FileKind
from ..core.versions import version_numbers
from .preprocess import BLOCK, Frame, find_seen, resize_and_crop

QUARTER_TURN = 90  # degrees
MAX_PIXELS = 40_000_000  # of a frame; 8K video has 35 million
FRAME_THREADS_PIXELS = 10_000_000  # above, a frame a thread in flight would take gigabytes
MOST_SEEN = 0.9  # of a frame's pixels, for the others to be left out before it is converted
PLANES = version_numbers(av.__version__) >= (18,)  # of any place in memory are a frame to this PyAV
# of a conversion to RGB: starting more costs more than they save; earlier versions of PyAV have but one
ONE_THREAD: dict[str, Any] = {"threads": 1} if PLANES else {}
MAX_FRAMES = 20_000_000  # 92 hours at 60 frames a second
VIDEO = FileKind(
    "a readable video",
    ClipError,
    "check that the file plays, or pass --skip-unreadable to go on without it",
    max_bytes=1 << 44,
    missing=ClipNotFoundError,
    missing_fix="correct the path, or pass --skip-unreadable",
)
# FFmpeg's readers of formats that hold the video themselves: a playlist would name other files, or addresses.
FORMATS = (
    "mov,matroska,avi,flv,live_flv,mpeg,mpegvideo,mpegts,mpegtsraw,ogg,asf,gif,apng,nut,mxf,gxf,wtv,dv,rm,vob,ivf,obu,av1,"
    "h264,hevc,vvc,m4v,h261,h263,vc1,mjpeg,yuv4mpegpipe,swf,bink,smk,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe"
)
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}


class _TimestampMismatchError(Exception):
    """The decoder's timestamps do not follow the container's: only counting frames is exact."""


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The frames of a video in presentation order, read off its packets without decoding.

    `timestamps` are in units of the stream's time base; it is empty where the container has none to seek by.
    `keyframes` are positions at which decoding can start. `count` is the number of frames.
    """

    count: int
    timestamps: NDArray[np.int64]
    keyframes: NDArray[np.int64]


def count_frames(path: Path) -> FrameIndex:
    """Index the frames of the first video stream; the container's own frame count is often missing or wrong.

    Raises ClipError for a file that is no video, is cut off, or has no frame.
    """
    VIDEO.require(path)
    with _translated(path), _open(path) as container:
        return _index_packets(container, _video_stream(container, path))


def read_frames(path: Path, index: FrameIndex, wanted: Sequence[int], size: int) -> dict[int, Frame]:
    """Decode the frames numbered `wanted`, upright, each resized and cropped to (size, size, 3) uint8 RGB.

    Only these frames are kept. Raises ClipError when one of them does not decode.
    """
    ordered = sorted(set(wanted))
    with _translated(path):
        if len(index.timestamps):
            try:
                return _read_seeking(path, index, ordered, size)
            except _TimestampMismatchError:
                pass  # some AVI files; the count below is exact there
        return _read_counting(path, ordered, size)


def _open(path: Path) -> InputContainer:
    """The file, and no other: a name with a colon is no protocol, and a list of other videos is no video."""
    return av.open(f"file:{path}", options=OPTIONS)


def _index_packets(container: InputContainer, stream: VideoStream) -> FrameIndex:
    times: list[int | None] = []
    keys: list[bool] = []
    is_cut = False
    for packet in container.demux(stream):
        if packet.size:  # what a transport stream lost in between is the decoder's to conceal
            is_cut = packet.is_corrupt
        if len(times) > MAX_FRAMES:
            raise av.error.InvalidDataError(0, f"it holds more than {MAX_FRAMES} frames")
        if packet.size and not packet.is_discard:
            times.append(packet.pts)
            keys.append(packet.is_keyframe)
    if is_cut:
        raise av.error.InvalidDataError(0, "the file ends in the middle of a frame")
    if not times:
        raise av.error.InvalidDataError(0, "it holds no frame")
    known = [time for time in times if time is not None]
    if len(set(known)) != len(times):
        return FrameIndex(len(times), np.empty(0, np.int64), np.empty(0, np.int64))
    order = np.argsort(known)
    return FrameIndex(len(times), np.array(known)[order], np.flatnonzero(np.array(keys)[order]))


def _read_seeking(path: Path, index: FrameIndex, wanted: Sequence[int], size: int) -> dict[int, Frame]:
    """Jump to the keyframe before each wanted frame unless decoding on gets there first."""
    frames: dict[int, Frame] = {}
    with _open(path) as container:
        stream = _video_stream(container, path)
        decoder = container.decode(stream)
        position = 0  # the frame that the decoder yields next
        for number in wanted:
            before = index.keyframes[index.keyframes <= number]
            if len(before) and before[-1] > position:
                container.seek(int(index.timestamps[before[-1]]), stream=stream)
                decoder, position = container.decode(stream), -1
            frame: VideoFrame | None = None
            while position <= number:
                frame = next(decoder, None)
                found = _position(index, frame)
                if position not in (-1, found) or found > number:
                    raise _TimestampMismatchError
                position = found + 1
            if frame is None:
                raise _TimestampMismatchError
            frames[number] = to_upright(frame, size)
    return frames


def _position(index: FrameIndex, frame: VideoFrame | None) -> int:
    if frame is None or frame.pts is None:
        raise _TimestampMismatchError
    position = int(np.searchsorted(index.timestamps, frame.pts))
    if position == index.count or index.timestamps[position] != frame.pts:
        raise _TimestampMismatchError
    return position


def _read_counting(path: Path, wanted: Sequence[int], size: int) -> dict[int, Frame]:
    frames: dict[int, Frame] = {}
    needed, number = set(wanted), 0
    with _open(path) as container:
        for number, frame in enumerate(container.decode(_video_stream(container, path)), start=1):
            if number - 1 in needed:
                frames[number - 1] = to_upright(frame, size)
            if number > wanted[-1]:
                return frames
    raise ClipError(
        f"{path.name}: {number} frames decode, frame {wanted[-1]} is needed",
        fix="check that the file plays to its end, or pass --skip-unreadable to go on without it",
    )


def to_upright(frame: VideoFrame, size: int) -> Frame:
    """To upright RGB of the clip's size; the display matrix counts its angle counter-clockwise, as rot90 does."""
    require_size(frame.width, frame.height)
    turns, rest = divmod(round(frame.rotation), QUARTER_TURN)
    if rest:
        raise av.error.InvalidDataError(0, f"it is to be shown rotated by {frame.rotation} degrees")
    rows, columns = find_seen(frame.height, frame.width, size)
    if not turns and rows * columns < MOST_SEEN * frame.height * frame.width and _can_be_cut(frame):
        return resize_and_crop(convert_to_rgb(_cut(frame, rows, columns)), size, (frame.height, frame.width))
    return resize_and_crop(np.ascontiguousarray(np.rot90(convert_to_rgb(frame), turns)), size)


def _can_be_cut(frame: VideoFrame) -> bool:
    """True where each block of 2 x 2 pixels is converted for itself, and PyAV takes planes as they lie there."""
    return PLANES and frame.format.name == "yuv420p" and not frame.height % 2 and not frame.width % BLOCK


def _cut(frame: VideoFrame, rows: int, columns: int) -> VideoFrame:
    """The first rows and columns of a frame, without a copy."""
    flat = [np.frombuffer(plane, np.uint8) for plane in frame.planes]  # type: ignore[call-overload]  # it is a buffer
    luma, *chroma = (one.reshape(-1, plane.line_size) for one, plane in zip(flat, frame.planes, strict=True))
    planes = [luma[:rows, :columns], *(one[: rows // 2, : columns // 2] for one in chroma)]
    cut = VideoFrame.from_dlpack(planes, format="yuv420p", width=columns, height=rows)
    cut.colorspace, cut.color_range = frame.colorspace, frame.color_range
    return cut


def convert_to_rgb(frame: VideoFrame) -> Frame:
    """To uint8 RGB (height, width, 3), as swscale does it by default."""
    return frame.to_ndarray(format="rgb24", **ONE_THREAD).astype(np.uint8, copy=False)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise ClipError(f"{path.name}: no video stream", fix="give a video, not an audio file")
    stream = container.streams.video[0]
    require_decodable(stream)
    small = stream.codec_context.width * stream.codec_context.height <= FRAME_THREADS_PIXELS
    stream.thread_type = "AUTO" if small else "SLICE"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # also for frames that are not as announced
    return stream


def require_decodable(stream: VideoStream) -> None:
    """Raise FFmpeg's own error for a stream that nothing here decodes, or whose frames take too much memory."""
    if stream.codec_context is None:
        raise av.error.DecoderNotFoundError(0, "it is in a format that is not known here")
    require_size(stream.codec_context.width, stream.codec_context.height)


def require_size(width: int, height: int) -> None:
    """Raise FFmpeg's own error for a frame that would take too much memory."""
    if width * height > MAX_PIXELS:
        raise av.error.InvalidDataError(0, f"its frames are {width}x{height}, at most {MAX_PIXELS:,} pixels are read")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except DualExportError:
        raise
    except (av.error.FFmpegError, cv2.error, OSError, ValueError, ArithmeticError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ClipError:
    reason = getattr(error, "strerror", None) or str(error)
    return ClipError(
        f"{path.name} cannot be decoded: {reason}",
        fix="check that the file plays, or pass --skip-unreadable to go on without it",
    )
