"""Accuracy of one frame alone on the generated actions: a linear probe on a frame drawn at random of each clip.

Usage: python benchmarks/single_frame.py [--clips 1800]
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from dualexport.clips.scenes import ACTIONS, SCENE_FRAMES, make_scene, render_scene

SEED = 4242
SIDE, ZOOM = 112, 0.5  # the whole scene at half its size
CELLS = 6  # a side, over which what the probe sees is averaged
FIT_SHARE = 0.8
PENALTIES = (10.0, 100.0, 1000.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1800)
    count = parser.parse_args().clips
    random = np.random.default_rng(0)
    features = np.array([describe(index, int(random.integers(SCENE_FRAMES))) for index in range(count)])
    labels, fit = np.arange(count) % len(ACTIONS), int(count * FIT_SHARE)
    features = (features - features[:fit].mean(0)) / features[:fit].std(0)
    features = np.column_stack((features, np.ones(count)))
    targets = np.eye(len(ACTIONS))[labels[:fit]]
    for penalty in PENALTIES:
        gram = features[:fit].T @ features[:fit] + penalty * np.eye(features.shape[1])
        hits = (features @ np.linalg.solve(gram, features[:fit].T @ targets)).argmax(1) == labels
        print(
            f"penalty {penalty:g}: {hits[:fit].mean():.1%} of the frames it was fitted to, "
            f"{hits[fit:].mean():.1%} of others"
        )
    print(f"chance: {1 / len(ACTIONS):.1%}")


def describe(index: int, frame: int) -> np.ndarray:
    """Colours, edges and saturation of one frame, averaged over cells, and what is most and least in it."""
    picture = render_scene(make_scene(SEED, index), (frame,), SIDE, ZOOM)[0].astype(np.float64)
    grey = picture.mean(axis=2)
    grey = (grey - grey.mean()) / grey.std()
    edges = [np.abs(np.gradient(grey, axis=axis)) for axis in (0, 1)]
    maps = [*np.moveaxis(picture, 2, 0), *edges, np.ptp(picture, axis=2)]
    cells = [cv2.resize(values, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel() for values in maps]
    return np.concatenate((*cells, [grey.max(), grey.min(), *(edge.mean() for edge in edges), picture.std()]))


if __name__ == "__main__":
    main()
