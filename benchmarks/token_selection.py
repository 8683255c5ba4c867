"""Savings by token selection: each graph with and without it, in one run.

Usage: python benchmarks/token_selection.py [--model t --model b] [--graph folded] [--rounds 3]

Per selection and graph: multiply-accumulates, megabytes moved, layers and estimated latency of the FP16 plan, and ONNX
Runtime's latency of the FP32 graph on this machine (median; the selections alternate). Below each figure is its ratio
to the same graph without selection. "in selectors" are layers made of nothing else. The folded plan takes uint8 frames.
Needs TensorRT, but no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dualexport.core.choices import DeviceName, Graph, InputType, ModelSize, Precision
from dualexport.core.selection import parse_selections
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.pipeline.plan import plan_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.runtimes.plans.devices import DEVICES, estimate
from dualexport.runtimes.plans.plan import EnginePlan

SELECTIONS = ("", "T0:0.75", "T0:0.5", "T0:0.25", "T0:0.5,S2:0.74")
DEVICE = DEVICES[DeviceName.AGX_ORIN]
SELECTOR = "_score_predictor."


@dataclass
class Measurement:
    """The figures of one graph with one selection."""

    plan: EnginePlan
    runner: OnnxRunner
    runs_ms: list[float]

    def figures(self) -> dict[str, float]:
        in_selectors = [
            layer for layer in self.plan.layers if layer.origins and all(SELECTOR in name for name in layer.origins)
        ]
        return {
            "GMACs": self.plan.graph_macs / 1e9,
            "MB moved": self.plan.moved_bytes / 1e6,
            "in selectors": sum(layer.moved_bytes for layer in in_selectors) / 1e6,
            "layers": len(self.plan.layers),
            f"{DEVICE.name.value} ms": estimate(self.plan, DEVICE).total_ms,
            "ONNX Runtime ms": statistics.median(self.runs_ms),
        }


def prepare(size: ModelSize, graph: Graph, selection: str, folder: Path) -> Measurement:
    network = build_random_network(size, 0, parse_selections(selection) if selection else ())
    input_type = InputType.UINT8 if graph is Graph.FOLDED else InputType.FLOAT32
    half, single = folder / "half.onnx", folder / "single.onnx"
    export_onnx(network, half, OnnxOptions(graph, Precision.FP16, input_type), parent=None)
    export_onnx(network, single, OnnxOptions(graph, Precision.FP32), parent=None)
    return Measurement(plan_onnx(half), OnnxRunner(single), [])


def measure(size: ModelSize, graph: Graph, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measurements = {selection: prepare(size, graph, selection, Path(folder)) for selection in SELECTIONS}
    for _ in range(rounds):
        for measurement in measurements.values():
            shape = measurement.runner.inputs[0].shape
            clip = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            started = time.perf_counter()
            measurement.runner.infer({"clip": clip})
            measurement.runs_ms.append((time.perf_counter() - started) * 1e3)
    print(f"DualFormer-{size.value}, {graph.value} graph, 1 clip")
    whole = measurements[""].figures()
    print(f"{'':16}" + "".join(f"{name:>17}" for name in whole))
    for selection, measurement in measurements.items():
        figures = measurement.figures()
        print(f"{selection or 'all tokens':16}" + "".join(f"{value:17.2f}" for value in figures.values()))
        if selection:
            ratios = [f"{value / whole[name]:17.3f}" if whole[name] else f"{'':17}" for name, value in figures.items()]
            print(f"{'  ratio':16}" + "".join(ratios))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[size.value for size in ModelSize])
    parser.add_argument("--graph", action="append", choices=[graph.value for graph in Graph])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for size in options.model or ("t", "b"):
        for graph in options.graph or [graph.value for graph in Graph]:
            measure(ModelSize(size), Graph(graph), options.rounds)


if __name__ == "__main__":
    main()
