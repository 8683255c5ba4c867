"""Clip sources: a video, a folder of videos or frame images, a list file, or stored arrays, as a stream of clips."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from ..core.choices import Decoder
from ..core.errors import ClipError, ClipNotFoundError
from ..core.reading import FileKind, format_bytes, is_there
from ..core.types import Array, Clip, Preprocessing
from .arrays import read_stored_clips
from .gstreamer_clips import show_by_gstreamer
from .listing import ARRAY_SUFFIXES, IMAGE_SUFFIXES, Video, list_videos
from .preprocess import resize_and_crop, sample_frames
from .video import count_frames, read_frames

MAX_VIEWS = 10_000
MAX_FRAME_BYTES = 2 << 30  # of one video's sampled frames
IMAGE = FileKind(
    "an image",
    ClipError,
    "remove it, or pass --skip-unreadable",
    max_bytes=256 << 20,
    missing=ClipNotFoundError,
)


@dataclass(frozen=True, slots=True)
class SkippedVideo:
    """An entry that could not be read, and why."""

    name: str
    reason: str


class ClipSource:
    """Clips of a source, one at a time and as often as it is iterated; only one video's sampled frames are in memory.

    Raises ClipError at once for a source that holds no video, and while iterating for a video that cannot be read;
    with `skip_unreadable` such a video is listed in `skipped` instead. A whole iteration without a clip always raises.
    With `max_clips` only so many videos are taken, evenly spread over the source.
    """

    def __init__(
        self,
        path: Path,
        preprocessing: Preprocessing,
        *,
        views: int = 1,
        skip_unreadable: bool = False,
        max_clips: int | None = None,
    ) -> None:
        if not 1 <= views <= MAX_VIEWS:
            raise ClipError(f"{views} views of a video, 1 to {MAX_VIEWS} are taken", fix="ask for fewer --views")
        self.videos = _spread(list_videos(path), max_clips // views if max_clips else None)
        self.skipped: tuple[SkippedVideo, ...] = ()
        self.path = path
        self.views = views
        self._preprocessing = preprocessing
        self.skip_unreadable = skip_unreadable
        self.decoder = Decoder.FFMPEG
        self.shown_frames: slice | None = None

    def shown_by(self, decoder: Decoder) -> ClipSource:
        """The same source, whose clips also have their frames as `decoder` gives them; it is for video files only."""
        other = copy.copy(self)
        other.decoder = decoder
        return other

    def shown_at(self, frames: slice) -> ClipSource:
        """The same source, whose clips are shown to artifacts with these frames only."""
        other = copy.copy(self)
        other.shown_frames = frames
        return other

    def of(self, videos: Sequence[Video]) -> ClipSource:
        """The same source with other videos in it: some of them, or with other labels."""
        other = copy.copy(self)
        other.videos, other.skipped = tuple(videos), ()
        return other

    @property
    def rules(self) -> str:
        """The rules by which a video becomes clips, as a text that is the same for the same ones."""
        return f"{self._preprocessing} {self.views} views {self.shown_frames or ''}".rstrip()

    def __iter__(self) -> Iterator[Clip]:
        read = 0
        for read, clip in enumerate(self.read(), 1):  # noqa: B007  # counted
            yield clip
        if not read:
            raise self.nothing_read()

    def read(self) -> Iterator[Clip]:
        """The clips as iterating gives them, but none is no error: this may be a part of a larger source."""
        self.skipped = ()
        for video in self.videos:
            try:
                yield from self._read_video(video)
            except ClipError as error:
                if not self.skip_unreadable:
                    raise
                self.skipped += (SkippedVideo(video.name, str(error)),)

    def _read_video(self, video: Video) -> Iterable[Clip]:
        clips = _read_clips(video, self._preprocessing, self.views)
        if self.shown_frames is not None:
            return (clip.shown_at(self.shown_frames) for clip in clips)
        if self.decoder is not Decoder.GSTREAMER:
            return clips
        if video.path.suffix.lower() in ARRAY_SUFFIXES or video.path.is_dir():
            raise ClipError(f"{video.where}: no video, which GStreamer would decode", fix="leave --decoder out")
        return show_by_gstreamer(video.path, tuple(clips), self._preprocessing.size)

    def list_clips(self) -> tuple[tuple[Video, int], ...]:
        """Every clip's video and its number there, not decoded; raises ClipError for arrays that cannot be read."""
        return tuple((video, number) for video in self.videos for number in range(self._count_clips(video)))

    def read_clip(self, video: Video, number: int) -> Clip:
        """One of the clips listed. Raises ClipError for a video that cannot be read."""
        if video.path.suffix.lower() in ARRAY_SUFFIXES:
            return next(islice(_read_arrays(video, self._preprocessing), number, None))
        (clip,) = _read_clips(video, self._preprocessing, self.views, number)
        return clip

    def _count_clips(self, video: Video) -> int:
        if video.path.suffix.lower() not in ARRAY_SUFFIXES:
            return self.views
        return sum(1 for _ in read_stored_clips(video.path, video.where))

    def nothing_read(self) -> ClipError:
        """The error of a source without a readable video."""
        return ClipError(
            f"{self.path}: none of its {len(self.videos)} videos could be read",
            fix="run without --skip-unreadable to see why",
        )

    def __length_hint__(self) -> int:
        return len(self.videos) * self.views

    def split(self, every: int) -> tuple[ClipSource, ClipSource]:
        """The source without each `every`-th video, and those: both need not be read to be told apart."""
        rest, held_out = copy.copy(self), copy.copy(self)
        rest.videos = tuple(video for index, video in enumerate(self.videos, 1) if index % every)
        held_out.videos = self.videos[every - 1 :: every]
        return rest, held_out


def _spread(videos: tuple[Video, ...], most: int | None) -> tuple[Video, ...]:
    """At most `most` of the videos, evenly spread, the first among them."""
    if most is None or len(videos) <= most:
        return videos
    return tuple(videos[index * len(videos) // most] for index in range(most))


def _read_clips(video: Video, preprocessing: Preprocessing, views: int, only: int | None = None) -> Iterator[Clip]:
    """The views of a video, or `only` one of them."""
    if video.path.suffix.lower() in ARRAY_SUFFIXES:
        yield from _read_arrays(video, preprocessing)
        return
    if not is_there(video.path):
        raise ClipNotFoundError(f"{video.where}: no such file", fix="correct the path, or pass --skip-unreadable")
    images = _list_images(video) if video.path.is_dir() else None
    index = count_frames(video.path) if images is None else None
    count = index.count if index is not None else len(images or ())
    sampled = enumerate(sample_frames(count, preprocessing.frames, preprocessing.stride, views))
    numbers = {view: indices for view, indices in sampled if only in (None, view)}
    wanted = sorted({number for indices in numbers.values() for number in indices})
    _require_memory(len(wanted) * preprocessing.size**2 * 3, video, views)
    if index is not None:
        frames = read_frames(video.path, index, wanted, preprocessing.size)
    else:
        frames = {number: _read_image((images or ())[number], preprocessing.size) for number in wanted}
    for view, indices in numbers.items():
        yield Clip(
            name=video.name,
            view=view,
            data=np.stack([frames[number] for number in indices]),
            preprocessing=preprocessing,
            frame_indices=indices,
            label=video.label,
        )


def _require_memory(size: int, video: Video, views: int) -> None:
    if size > MAX_FRAME_BYTES:
        raise ClipError(
            f"{video.where}: {views} views take {format_bytes(size)}, at most {format_bytes(MAX_FRAME_BYTES)} are held",
            fix="ask for fewer --views",
        )


def _list_images(video: Video) -> tuple[Path, ...]:
    """The frames in a folder, in order; raises ClipError for a folder without any, or that must not be looked into."""
    try:
        files = [file for file in video.path.iterdir() if not file.name.startswith(".") and not file.is_dir()]
    except OSError as error:
        raise ClipError(f"{video.where}: {error.strerror}", fix="allow it, or pass --skip-unreadable") from error
    images = sorted((file for file in files if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order)
    if not images:
        raise ClipError(
            f"{video.where}: a folder without frame images",
            fix="list the videos in it one by one, or give the folder itself",
        )
    return tuple(images)


def _read_image(path: Path, size: int) -> Array:
    try:
        pixels = cv2.imdecode(np.frombuffer(IMAGE.read_bytes(path), np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise IMAGE.refuse(path, error.err or "it cannot be decoded") from error
    if pixels is None:
        raise ClipError(f"{path.parent.name}/{path.name} is not an image", fix=IMAGE.fix)
    return resize_and_crop(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), size)  # type: ignore[arg-type]


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, 0, part) if not part.isdecimal() else (1, len(part.lstrip("0")), part.lstrip("0")) for part in parts]


def _read_arrays(video: Video, preprocessing: Preprocessing) -> Iterator[Clip]:
    """Every clip of a .npy or .npz file.

    Stored clips are whole: no frame is sampled, and they are the views that were stored.
    """
    for number, stored in enumerate(read_stored_clips(video.path, video.where)):
        is_frames = stored.dtype == np.uint8
        data = np.stack([resize_and_crop(frame, preprocessing.size) for frame in stored]) if is_frames else stored
        yield Clip(f"{video.name}[{number}]", 0, np.ascontiguousarray(data), preprocessing, label=video.label)
