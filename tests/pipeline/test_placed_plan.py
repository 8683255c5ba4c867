"""Limits of compiled plans with INT8 where it is placed, which a change must not exceed."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from dualexport.calibration.calibrate import draft_calibration
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.placement import free_layers
from dualexport.calibration.qdq import quantize_graph
from dualexport.core.choices import DeviceName, Graph, InputType, ModelSize, Precision
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.folding.fold import fold
from dualexport.exporter.folding.layers import StandardizingLinear
from dualexport.exporter.onnx_export import OnnxOptions, trace
from dualexport.graphs.load import load_graph
from dualexport.pipeline.plan import plan_onnx
from dualexport.runtimes.plans.devices import DEVICES, estimate
from dualexport.runtimes.plans.plan import EnginePlan
from support.engines import require_builder


@dataclass
class Planner:
    """Plans the FP16 graph of a network, with layers in INT8."""

    path: Path

    def plan(self, *patterns: str) -> EnginePlan:
        """With the layers in INT8 that a pattern matches, and those that are free."""
        model = load_graph(self.path)
        layers = find_layers(model)
        chosen = {layer.name for layer in layers if any(fnmatch.fnmatch(layer.name, one) for one in patterns)}
        kept = frozenset(layer.name for layer in layers) - chosen - free_layers(layers)
        placed = self.path.with_name("placed.onnx")
        onnx.save(quantize_graph(model, layers, draft_calibration(layers), kept), placed)
        return plan_onnx(placed)


def export(size: ModelSize, folder: Path) -> Planner:
    """FP16, of frames as they are decoded, with all layers standardizing behind their product that may."""
    require_builder()
    network = build_random_network(size, 0)
    standardizing = [name for name, layer in fold(network).named_modules() if isinstance(layer, StandardizingLinear)]
    traced = trace(network, OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8))
    return Planner(traced.write(folder / "fp16.onnx", Precision.FP16, parent=None, dividing_behind=standardizing).path)


def speed_up(before: EnginePlan, after: EnginePlan, device: DeviceName) -> float:
    return estimate(before, DEVICES[device]).total_ms / estimate(after, DEVICES[device]).total_ms


@pytest.mark.slow
def test_what_is_free_makes_t_faster_on_every_device(tmp_path: Path) -> None:
    planner = export(ModelSize.T, tmp_path)
    half, free = plan_onnx(planner.path), planner.plan()
    assert len(free.layers) <= len(half.layers) <= 171
    assert half.moved_bytes <= 1075e6
    assert free.moved_bytes <= 1045e6
    assert free.fused_attentions == 18
    assert free.work_shares["int8"] == pytest.approx(free.asked_shares["int8"], abs=1e-3)
    assert all(speed_up(half, free, device) > 1.01 for device in DeviceName)


@pytest.mark.slow
def test_b_is_faster_where_int8_is_placed_in_its_later_stages(tmp_path: Path) -> None:
    planner = export(ModelSize.B, tmp_path)
    half, placed = plan_onnx(planner.path), planner.plan("blocks.[23].*.fc[12]")
    assert len(half.layers) <= 229
    assert half.moved_bytes <= 2700e6
    assert placed.fused_attentions == 24
    assert placed.work_shares["int8"] > 0.5
    for device, least in ((DeviceName.AGX_ORIN, 1.1), (DeviceName.ORIN_NANO, 1.17), (DeviceName.RTX_4090, 1.26)):
        assert speed_up(half, placed, device) >= least
