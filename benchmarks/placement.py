"""INT8 by placement as TensorRT's plans estimate it: FP16, what is free, all, and placed for each device of the table.

Usage: python benchmarks/placement.py [--model t ...] [--devices agx-orin ...]

Needs a TensorRT; on a machine without a GPU, scripts/install-cpu-tensorrt installs one that plans. The weights are
random: a plan does not depend on them. Batch 1, uint8 input, all layers that may standardize behind their product in
FP16. A choice is planned once for all devices. The milliseconds are estimates, see `dualexport plan --help`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from dualexport.calibration.calibrate import draft_calibration
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.placement import free_layers, search_placement
from dualexport.calibration.qdq import quantize_graph
from dualexport.core.choices import DeviceName, Graph, InputType, ModelSize, Precision
from dualexport.core.errors import QuantizationError
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.folding.fold import fold
from dualexport.exporter.folding.layers import StandardizingLinear
from dualexport.exporter.onnx_export import OnnxOptions, trace
from dualexport.graphs.load import load_graph
from dualexport.pipeline.plan import plan_onnx
from dualexport.pipeline.stage_times import ESTIMATED_GAIN, sum_stages
from dualexport.runtimes.plans.devices import DEVICES, estimate
from dualexport.runtimes.plans.plan import EnginePlan

Choice = frozenset[str]


def export(size: ModelSize, path: Path) -> None:
    network = build_random_network(size, seed=0)
    standardizing = [name for name, layer in fold(network).named_modules() if isinstance(layer, StandardizingLinear)]
    traced = trace(network, OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8))
    traced.write(path, Precision.FP16, parent=None, dividing_behind=standardizing)


def make_planner(path: Path) -> Callable[[Choice], EnginePlan]:
    """Plans the graph at `path` with some layers in INT8, each choice once."""
    model, plans = load_graph(path), dict[Choice, EnginePlan]()
    layers = find_layers(model)
    draft, every = draft_calibration(layers), frozenset(layer.name for layer in layers)

    def plan(chosen: Choice) -> EnginePlan:
        if chosen not in plans:
            placed = path.with_name("placed.onnx")
            onnx.save(quantize_graph(model, layers, draft, every - chosen) if chosen else model, placed)
            plans[chosen] = plan_onnx(placed)
        return plans[chosen]

    return plan


def describe(plan: EnginePlan) -> tuple[str, ...]:
    fused = f"{plan.fused_attentions} of {plan.attentions}"
    return str(len(plan.layers)), fused, f"{plan.moved_bytes / 1e6:.0f}", f"{plan.work_shares.get('int8', 0.0):.0%}"


def print_size(size: ModelSize, devices: list[DeviceName], folder: Path) -> None:
    path = folder / f"{size.value}.onnx"
    export(size, path)
    plan, layers = make_planner(path), find_layers(load_graph(path))

    def total(device: DeviceName, chosen: Choice) -> float:
        return estimate(plan(chosen), DEVICES[device]).total_ms

    def show(name: str, described: tuple[str, ...], cells: list[str]) -> None:
        print(f"| {size.value}, {name} | " + " | ".join((*described, *cells)) + " |", flush=True)

    nothing: Choice = frozenset()
    rest = {device: total(device, nothing) for device in devices}
    show("FP16", describe(plan(nothing)), [f"{rest[device]:.2f} ms" for device in devices])
    for name, chosen in (("free", free_layers(layers)), ("all", frozenset(layer.name for layer in layers))):
        ratios = [f"{rest[device] / total(device, chosen):.3f}" for device in devices]
        show(name, describe(plan(chosen)), ratios)
    for device in devices:

        def time_stages(chosen: Choice, device: DeviceName = device) -> dict[str, float]:
            made = plan(chosen)
            times = estimate(made, DEVICES[device]).layers_ms
            return sum_stages(zip((layer.origins for layer in made.layers), times, strict=True))

        try:
            found = search_placement(layers, time_stages, ESTIMATED_GAIN)
        except QuantizationError as error:
            print(f"{size.value}, {device.value}: {error}", flush=True)
            continue
        ratio = f"{rest[device] / total(device, found.layers):.3f}"
        cells = [ratio if one is device else "" for one in devices]
        show(f"placed for {device.value}", describe(plan(found.layers)), cells)
        chosen_groups = [gain.group for gain in found.gains if gain.chosen]
        print(f"  {device.value}: {', '.join(chosen_groups)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=ModelSize, nargs="+", default=[ModelSize.T, ModelSize.S, ModelSize.B])
    parser.add_argument("--devices", type=DeviceName, nargs="+", default=list(DeviceName))
    options = parser.parse_args()
    columns = ("graph", "layers", "attentions fused", "MB moved", "in INT8", *(one.value for one in options.devices))
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for size in options.model:
        with tempfile.TemporaryDirectory() as folder:
            print_size(size, options.devices, Path(folder))


if __name__ == "__main__":
    main()
