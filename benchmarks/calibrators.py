"""Calibration beside ONNX Runtime's calibrators: time a clip as a ratio to a bare FP32 run, and peak memory by clips.

Usage: python benchmarks/calibrators.py DIR SOURCE [--clips 8 32]

DIR is what `dualexport onnx` wrote, SOURCE videos. Every calibrator looks at what flows into the folded FP32 graph's
linear layers, on the same clips, held in memory before, in a process of its own. Bare runs of the same graph are timed
right before and right after in the same process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.observe import list_inputs, make_observable, observe
from dualexport.clips.source import ClipSource
from dualexport.core.choices import Precision
from dualexport.core.manifest import find_manifest
from dualexport.core.reporter import no_progress
from dualexport.core.types import Clip
from dualexport.graphs.load import load_graph
from dualexport.pipeline.calibrate import find_folded
from dualexport.runtimes.onnx_runner import OnnxRunner
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import CalibraterBase, create_calibrator

OURS = "ours"
THEIRS = {
    f"ONNX Runtime, {method.name}": method
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
}
BARE_RUNS = 4


def prepare(name: str, graph: Path, clips: list[Clip], scratch: Path) -> Callable[[], object]:
    """Open the session of a calibrator and return its measuring of `clips`, which alone is timed."""
    layers = find_layers(load_graph(graph))
    if name == OURS:
        onnx.save(make_observable(load_graph(graph), layers), scratch / "observable.onnx")
        runner = OnnxRunner(scratch / "observable.onnx", spinning=False)
        return lambda: observe(runner, layers, clips, no_progress)
    wanted, select = set(list_inputs(layers)), CalibraterBase.select_tensors_to_calibrate

    def select_ours(calibrater: CalibraterBase, model: onnx.ModelProto) -> tuple[set[str], object]:
        tensors, types = select(calibrater, model)
        return tensors & wanted, types

    CalibraterBase.select_tensors_to_calibrate = select_ours
    calibrator = create_calibrator(graph, None, str(scratch / "augmented.onnx"), calibrate_method=THEIRS[name])
    with OnnxRunner(graph) as runner:
        dtype = runner.inputs[0].dtype
    feeds = iter([{"clip": clip.network_input(dtype)[None]} for clip in clips])

    class Reader:
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    def run() -> object:
        calibrator.collect_data(Reader())
        return calibrator.compute_data()

    return run


def time_bare(graph: Path, clip: Clip) -> float:
    """Seconds of a bare run, the best of a few."""
    with OnnxRunner(graph) as runner:
        feed = {"clip": clip.network_input(runner.inputs[0].dtype)[None]}
        times = []
        for _ in range(BARE_RUNS + 1):
            started = time.perf_counter()
            runner.infer(feed)
            times.append(time.perf_counter() - started)
    return sorted(times[1:])[len(times) // 2 - 1]


def measure(name: str, folder: Path, source: Path, count: int) -> None:
    manifest = find_manifest(folder)
    graph = find_folded(manifest, Precision.FP32).path
    clips = list(islice(ClipSource(source, manifest.preprocessing, skip_unreadable=True), count))
    with tempfile.TemporaryDirectory() as scratch:
        before = time_bare(graph, clips[0])
        run = prepare(name, graph, clips, Path(scratch))
        started = time.perf_counter()
        run()
        seconds = (time.perf_counter() - started) / len(clips)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        bare = (before + time_bare(graph, clips[0])) / 2
    print(f"| {name} | {len(clips)} | {seconds:.3f} | {seconds / bare:.2f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--clips", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--only", choices=(OURS, *THEIRS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        measure(options.only, options.folder, options.source, options.clips[0])
        return
    print("| calibrator | clips | seconds a clip | of a bare FP32 run | peak MB |\n|---|---|---|---|---|", flush=True)
    for name in (OURS, *THEIRS):
        for count in options.clips:
            result = subprocess.run(
                [sys.executable, __file__, options.folder, options.source, "--clips", str(count), "--only", name]
            )
            if result.returncode:
                print(f"| {name} | {count} | ended with {result.returncode} | | |", flush=True)


if __name__ == "__main__":
    main()
