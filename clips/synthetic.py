"""Videos that are there when no video is: clips of generated scenes, and .mp4 files with their labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.files import staged_path, staged_set
from ..core.reporter import Progress, no_progress
from ..core.types import Clip, Preprocessing
from .scenes import SCENE_SIZE, make_scene, render_scene

VIDEO_SIZE = (256, 340)  # height and width in pixels, as Kinetics videos are commonly stored
FRAME_RATE = 25
CONTAINERS = {".avi": "avi", ".mkv": "matroska", ".mov": "mov", ".ts": "mpegts"}
LABELS_FILE = "labels.csv"
PATTERN = "moving pattern"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled videos on disk: `labels` is the list (path,label) that a clip source reads."""

    labels: Path
    videos: tuple[Path, ...]
    clips_by_action: dict[str, int]


def write_dataset(folder: Path, clips: int, seed: int, progress: Progress = no_progress) -> Dataset:
    """Encode scenes 0 to `clips` - 1 of data set `seed` as .mp4 files, and list them in labels.csv.

    All of them appear together, or none. Raises OutputError.
    """
    labelled: dict[Path, str] = {}
    with staged_set(folder) as staged:
        for index in range(clips):
            progress("rendering videos", index, clips)
            scene = make_scene(seed, index)
            video = folder / f"{index:05d}-{scene.action.replace(' ', '-')}.mp4"
            labelled[video] = scene.action
            _encode(staged.path(video.name), render_scene(scene))
        with staged.path(LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("path", "label"))
            rows.writerows((video.name, label) for video, label in labelled.items())
    progress("rendering videos", clips, clips)
    return Dataset(folder / LABELS_FILE, tuple(labelled), dict(Counter(labelled.values())))


def generated_clips(count: int, preprocessing: Preprocessing, seed: int = 0) -> Iterator[Clip]:
    """Scenes 0 to `count` - 1 of data set `seed` as clips, without the loss of an encoded video."""
    frames = range(0, preprocessing.frames * preprocessing.stride, preprocessing.stride)
    for index in range(count):
        scene = make_scene(seed, index)
        data = render_scene(scene, frames, preprocessing.size, preprocessing.size / SCENE_SIZE)
        yield Clip(f"scene {seed}/{index}", 0, data, preprocessing, tuple(frames), scene.action)


def render_pattern(seed: int, frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """A textured disc crossing a textured background: uint8 RGB (frames, height, width, 3), the same for a seed."""
    random = np.random.default_rng(seed)
    background = _texture(random, height, width)
    disc = _texture(random, height, width)
    radius = random.uniform(0.1, 0.2) * height
    start, end = random.uniform(0.2, 0.8, (2, 2)) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    video = np.empty((frames, height, width, 3), np.uint8)
    for number in range(frames):
        row, column = start + (end - start) * number / max(frames - 1, 1)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        video[number] = np.where(inside[..., None], disc, background)
    return video


def moving_patterns(count: int, preprocessing: Preprocessing, seed: int = 0) -> tuple[Clip, ...]:
    """`count` clips of moving patterns, each of another seed."""
    shape = (preprocessing.frames, preprocessing.size, preprocessing.size)
    return tuple(
        Clip(f"{PATTERN} {number}", 0, render_pattern(seed + number, *shape), preprocessing) for number in range(count)
    )


def is_pattern(clip: Clip) -> bool:
    """True for a clip that `moving_patterns` made, wherever it was stored since."""
    return clip.name.startswith(f"{PATTERN} ")


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], *, codec: str = "libx264", keyframe_interval: int = 250
) -> None:
    """Encode uint8 RGB frames (height, width, 3), even sizes, at 25 a second; the container follows the suffix."""
    with staged_path(path) as staged:
        _encode(staged, frames, codec, keyframe_interval)


def _encode(
    path: Path, frames: Iterable[NDArray[np.uint8]], codec: str = "libx264", keyframe_interval: int = 250
) -> None:
    with av.open(str(path), "w", format=CONTAINERS.get(path.suffix.lower(), "mp4")) as container:
        stream = container.add_stream(codec, rate=Fraction(FRAME_RATE))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = keyframe_interval
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
