"""Clip sources: a video, a folder of videos or frame images, a list file, or stored arrays, as a stream of clips."""

from __future__ import annotations

import copy
import csv
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.errors import ClipError
from ..core.types import Array, Clip, Preprocessing
from .preprocess import resize_and_crop, sample_frames
from .video import count_frames, read_frames

VIDEO_SUFFIXES = frozenset(
    (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
)
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".webp"))
ARRAY_SUFFIXES = frozenset((".npy", ".npz"))
LIST_SUFFIXES = frozenset((".csv", ".txt"))


@dataclass(frozen=True, slots=True)
class Video:
    """One entry of a source: a video file, a folder of frame images, or a file of arrays."""

    path: Path
    name: str
    label: str | None = None


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
        self.videos = _spread(list_videos(path), max_clips // views if max_clips else None)
        self.skipped: tuple[SkippedVideo, ...] = ()
        self.path = path
        self.views = views
        self._preprocessing = preprocessing
        self._skip_unreadable = skip_unreadable

    def of(self, videos: Sequence[Video]) -> ClipSource:
        """The same source with other videos in it: some of them, or with other labels."""
        other = copy.copy(self)
        other.videos, other.skipped = tuple(videos), ()
        return other

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
                yield from _read_clips(video, self._preprocessing, self.views)
            except ClipError as error:
                if not self._skip_unreadable:
                    raise
                self.skipped += (SkippedVideo(video.name, str(error)),)

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


def list_videos(path: Path) -> tuple[Video, ...]:
    """The entries of a source in a fixed order; raises ClipError when there is none."""
    if path.is_dir():
        return _list_folder(path)
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder", fix="give a video, a folder of videos, or a list of them")
    if path.suffix.lower() in LIST_SUFFIXES:
        return _list_file(path)
    return (Video(path, path.name),)


def _list_folder(root: Path) -> tuple[Video, ...]:
    """Videos and stored arrays at any depth; a folder with images and no video is itself a video."""
    videos = []
    for folder in sorted({root, *(entry for entry in root.rglob("*") if entry.is_dir())}):
        files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
        found = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES | ARRAY_SUFFIXES]
        if not found and any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
            found = [folder]
        videos += [Video(item, item.relative_to(root).as_posix() if item != root else root.name) for item in found]
    if not videos:
        raise ClipError(
            f"{root}: no video in this folder",
            fix=f"give a folder with {', '.join(sorted(VIDEO_SUFFIXES))} files, frame images or .npy clips",
        )
    return tuple(videos)


def _list_file(path: Path) -> tuple[Video, ...]:
    """`path`, `path label` or `path,label` a line; relative paths start at the list's folder."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path.name}: not a readable list of videos ({error})", fix="give UTF-8 text") from error
    videos = []
    for line in (line.strip() for line in lines):
        if line and not line.startswith("#") and line.lower() not in ("path", "path,label", "path label"):
            name, label = _split_line(line, path)
            videos.append(Video(path.parent / name, name, label))
    if not videos:
        raise ClipError(
            f"{path.name}: no video in this list", fix="write one path a line, with a label after it or not"
        )
    return tuple(videos)


def _split_line(line: str, path: Path) -> tuple[str, str | None]:
    if path.suffix.lower() == ".csv":
        name, *rest = next(csv.reader([line]))
        return name, rest[0].strip() if rest else None
    if (path.parent / line).exists() or " " not in line:  # a path may hold spaces
        return line, None
    name, label = line.rsplit(maxsplit=1)
    return name, label


def _read_clips(video: Video, preprocessing: Preprocessing, views: int) -> Iterator[Clip]:
    if video.path.suffix.lower() in ARRAY_SUFFIXES:
        yield from _read_arrays(video, preprocessing)
        return
    if not video.path.exists():
        raise ClipError(f"{video.name}: no such file", fix="correct the list, or pass --skip-unreadable")
    if video.path.is_dir():
        images = sorted(
            (file for file in video.path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order
        )
        index, count = None, len(images)
    else:
        index = count_frames(video.path)
        count = index.count
    numbers = sample_frames(count, preprocessing.frames, preprocessing.stride, views)
    wanted = sorted({number for view in numbers for number in view})
    if index is None:
        frames = {number: _read_image(images[number], preprocessing.size) for number in wanted}
    else:
        frames = read_frames(video.path, index, wanted, preprocessing.size)
    for view, indices in enumerate(numbers):
        yield Clip(
            name=video.name,
            view=view,
            data=np.stack([frames[number] for number in indices]),
            preprocessing=preprocessing,
            frame_indices=indices,
            label=video.label,
        )


def _read_image(path: Path, size: int) -> Array:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ClipError(f"{path.parent.name}/{path.name} is not an image", fix="remove it, or pass --skip-unreadable")
    return resize_and_crop(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), size)  # type: ignore[arg-type]


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _read_arrays(video: Video, preprocessing: Preprocessing) -> Iterator[Clip]:
    """Every clip of a .npy or .npz file: uint8 (..., frames, height, width, 3) or float32 (..., 3, frames, h, w).

    Stored clips are whole: no frame is sampled, and they are the views that were stored.
    """
    try:
        file = np.load(video.path, mmap_mode="r", allow_pickle=False)
        arrays = [file] if isinstance(file, np.ndarray) else [file[name] for name in file.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ClipError(
            f"{video.name} cannot be read: {str(error).splitlines()[0]}",
            fix="save it with np.save, without pickled objects",
        ) from error
    for number, stored in enumerate(clip for array in arrays for clip in _stored_clips(array, video)):
        is_frames = stored.dtype == np.uint8
        data = np.stack([resize_and_crop(frame, preprocessing.size) for frame in stored]) if is_frames else stored
        yield Clip(f"{video.name}[{number}]", 0, np.ascontiguousarray(data), preprocessing, label=video.label)


def _stored_clips(array: Array, video: Video) -> Array:
    is_frames = array.dtype == np.uint8 and array.ndim in (4, 5) and array.shape[-1] == 3
    is_input = array.dtype == np.float32 and array.ndim in (4, 5) and array.shape[-4] == 3
    if not (is_frames or is_input):
        raise ClipError(
            f"{video.name}: holds {array.dtype} {array.shape}, which is not a clip",
            fix="store uint8 frames (frames, height, width, 3) or float32 input (3, frames, height, width)",
        )
    return array if array.ndim == 5 else array[None]
