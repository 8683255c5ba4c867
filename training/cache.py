"""Rendered clips in a file, so that training does not wait for rendering."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from dualexport.calibration.scenes import make_scene, render_scene
from dualexport.contracts import staged_path

FRAMES = range(0, 32, 2)  # what the network takes of a video


def open_clips(folder: Path, seed: int, count: int, size: int, zoom: tuple[float, float]) -> np.ndarray:
    """The first `count` clips of a data set, uint8 (count, 16, size, size, 3), rendered unless they are there."""
    path = folder / f"clips-{seed}-{count}-{size}.npy"
    if not path.exists():
        print(f"rendering {count} clips of {size} px", flush=True)
        shape = (count, len(FRAMES), size, size, 3)
        with staged_path(path) as staged, get_context("spawn").Pool(2) as pool:
            clips = np.lib.format.open_memmap(staged, "w+", np.uint8, shape)
            for index, clip in enumerate(pool.imap(_render, ((seed, index, size, zoom) for index in range(count)), 8)):
                clips[index] = clip
            clips.flush()
    return np.load(path, mmap_mode="r")


def _render(job: tuple[int, int, int, tuple[float, float]]) -> np.ndarray:
    seed, index, size, zoom = job
    cv2.setNumThreads(1)
    scale = np.random.default_rng((seed, index, size)).uniform(*zoom)
    return render_scene(make_scene(seed, index), FRAMES, size, scale)
