"""Latency on this CPU of the plain and the folded graph, in alternating runs: ONNX Runtime, and OpenVINO if installed.

Usage: python benchmarks/cpu_latency.py [--model t] [--rounds 7]

FP32, batch 1, float32 input. OpenVINO (pip install openvino) is no dependency of dualexport.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from dualexport.core.choices import Graph, ModelSize, Precision
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner

try:
    import openvino
except ImportError:
    openvino = None

Run = Callable[[], object]


def onnx_runtime(path: Path, clip: np.ndarray) -> Run:
    runner = OnnxRunner(path)
    return lambda: runner.infer({"clip": clip})


def open_vino(path: Path, clip: np.ndarray, precision: str) -> Run:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda: compiled({"clip": clip})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t", choices=[size.value for size in ModelSize])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    network = build_random_network(ModelSize(options.model), seed=0)
    clip = np.random.default_rng(0).standard_normal((1, *network.config.clip_shape)).astype(np.float32)
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        for graph in Graph:
            path = Path(folder) / f"{graph.value}.onnx"
            export_onnx(network, path, OnnxOptions(graph, Precision.FP32), parent=None)
            runs[f"ONNX Runtime, {graph.value}"] = onnx_runtime(path, clip)
            if openvino is not None:
                runs[f"OpenVINO f32, {graph.value}"] = open_vino(path, clip, "f32")
                runs[f"OpenVINO bf16, {graph.value}"] = open_vino(path, clip, "bf16")
        for run in runs.values():
            run()  # warm-up
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - started)
    reference = statistics.median(seconds["ONNX Runtime, plain"])
    print(f"DualFormer-{options.model}, batch 1: median of {options.rounds} alternating runs")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:<24} {median:7.3f} s  {median / reference:5.2f} of plain ONNX Runtime")
    if openvino is None:
        print("OpenVINO is not installed: pip install openvino")


if __name__ == "__main__":
    main()
