"""The demo model on freshly generated videos it was never trained on: accuracy of every file, and what is kept.

Usage: python benchmarks/demo_accuracy.py [--clips 200] [--seed 20261121] [--confusion]

Videos are written as .mp4 and read as a user's are; each file runs in ONNX Runtime, one view a video. `kept` is the
share of selected token frames in which the action happens, in clips whose action takes only a part of the time;
`all` is that share of all token frames: what a selection by chance would have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from dualexport.clips.scenes import ACTIONS, SCENE_FRAMES, make_scene
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import write_dataset
from dualexport.core.choices import Precision
from dualexport.core.manifest import Manifest, read_manifest
from dualexport.core.types import Array, Clip
from dualexport.runtimes.onnx_runner import OnnxRunner
from numpy.typing import NDArray

SEED = 20261121
FRAMES_PER_TOKEN = 4  # of the video, from one token frame to the next
FRAMES_SEEN = 2  # of the video, between the two that a token frame is made of
VARIANTS = {"whole clip": [], "T0:0.5": ["--stts", "T0:0.5", "--with-selection"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--confusion", action="store_true", help="print what was mistaken for what, FP32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_dataset(folder / "videos", options.clips, options.seed)
        exports = {
            title: export(folder / f"export-{number}", more) for number, (title, more) in enumerate(VARIANTS.items())
        }
        manifests = {title: read_manifest(Path(found["files"][0]["path"]).parent) for title, found in exports.items()}
        source = ClipSource(dataset.labels, next(iter(manifests.values())).preprocessing)
        results = classify(source, manifests)
    truth = np.arange(options.clips) % len(ACTIONS)
    print(f"{options.clips} videos of seed {options.seed}; chance is {1 / len(ACTIONS):.1%}")
    for (title, precision), (found, kept) in results.items():
        line = f"{title:12} {precision.value}: top-1 {np.mean(found == truth):6.1%}"
        line += f", {exports[title]['gmacs_per_view']:.2f} GMACs"
        if kept is not None:
            line += ", action in {:.1%} of kept token frames, {:.1%} of all".format(*count_active(options.seed, kept))
        print(line)
        if options.confusion and precision is Precision.FP32:
            print_confusion(truth, found)


def export(folder: Path, more: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "dualexport", "onnx", "--model", "demo", "--output", str(folder), "--json", *more]
    summary: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return summary


def classify(
    source: ClipSource, manifests: dict[str, Manifest]
) -> dict[tuple[str, Precision], tuple[NDArray[np.int64], NDArray[np.int32] | None]]:
    """Best classes (clips,) and kept token frames (clips, kept) of every file; each video is decoded once."""
    with ExitStack() as runners:
        files = {
            (title, artifact.precision): runners.enter_context(OnnxRunner(artifact.path))
            for title, manifest in manifests.items()
            for artifact in manifest.artifacts
        }
        outputs = {key: list[dict[str, Array]]() for key in files}
        for clip in show_count(source):
            for key, runner in files.items():
                outputs[key].append(runner.infer({"clip": clip.network_input(runner.inputs[0].dtype)[None]}))
    return {
        key: (
            np.array([output["logits"][0].argmax() for output in found]),
            np.array([output["kept_frames"][0] for output in found]) if "kept_frames" in found[0] else None,
        )
        for key, found in outputs.items()
    }


def show_count(source: ClipSource) -> Iterator[Clip]:
    for number, clip in enumerate(source):
        print(f"\r{number} videos", end="", file=sys.stderr, flush=True)
        yield clip
    print(file=sys.stderr)


def count_active(seed: int, kept: NDArray[np.int32]) -> tuple[float, float]:
    """The share of kept, and of all token frames in which the action happens, where it does not take all the time."""
    active_kept, active = [], []
    for index, frames in enumerate(kept):
        motion = make_scene(seed, index).motion
        if motion.action == "standing still" or motion.end - motion.start > SCENE_FRAMES - 2:
            continue
        first = np.arange(SCENE_FRAMES // FRAMES_PER_TOKEN) * FRAMES_PER_TOKEN
        happens = (motion.start < first + FRAMES_SEEN) & (motion.end > first)
        active_kept.append(happens[frames].mean())
        active.append(happens.mean())
    return float(np.mean(active_kept)), float(np.mean(active))


def print_confusion(truth: NDArray[np.int64], found: NDArray[np.int64]) -> None:
    for action, label in enumerate(ACTIONS):
        mistaken = found[(truth == action) & (found != action)]
        names = ", ".join(f"{ACTIONS[other]} {count}" for other, count in enumerate(np.bincount(mistaken)) if count)
        print(f"    {label}: {np.sum(truth == action)} videos{f', mistaken for {names}' if names else ''}")


if __name__ == "__main__":
    main()
