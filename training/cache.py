"""Rendered clips in a file, so that training does not wait for rendering."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from dualexport.clips.scenes import make_scene, render_scene
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import write_video
from dualexport.core.files import staged_path
from dualexport.core.types import Preprocessing

FRAMES = range(0, 32, 2)  # what the network takes of a video


@dataclass(frozen=True, slots=True)
class Rendering:
    """Rules by which scenes become clips: pixels a side, `zoom` as in render_scene, and whether by way of an .mp4."""

    size: int
    zoom: tuple[float, float]
    encoded: bool = False

    @property
    def suffix(self) -> str:
        return f"{self.size}-mp4" if self.encoded else str(self.size)


def open_clips(folder: Path, seed: int, count: int, rendering: Rendering) -> np.ndarray:
    """The first `count` clips of a data set, uint8 (count, 16, size, size, 3), rendered unless they are there."""
    size = rendering.size
    path = folder / f"clips-{seed}-{count}-{rendering.suffix}.npy"
    if not path.exists():
        print(f"rendering {count} clips of {size} px", flush=True)
        shape = (count, len(FRAMES), size, size, 3)
        with staged_path(path) as staged, get_context("spawn").Pool(2) as pool:
            clips = np.lib.format.open_memmap(staged, "w+", np.uint8, shape)
            jobs = ((seed, index, rendering) for index in range(count))
            for index, clip in enumerate(pool.imap(_render, jobs, 8)):
                clips[index] = clip
            clips.flush()
    rendered: np.ndarray = np.load(path, mmap_mode="r")
    return rendered


def _render(job: tuple[int, int, Rendering]) -> np.ndarray:
    seed, index, rendering = job
    cv2.setNumThreads(1)
    scale = np.random.default_rng((seed, index, rendering.size)).uniform(*rendering.zoom)
    scene = make_scene(seed, index)
    if not rendering.encoded:
        return render_scene(scene, FRAMES, rendering.size, scale)
    with TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, render_scene(scene, size=rendering.size, zoom=scale))
        (clip,) = ClipSource(video, Preprocessing(frames=len(FRAMES), size=rendering.size))
    return clip.data
