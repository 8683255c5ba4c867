"""What the compiler makes of the folded graph: limits that a change of a fold, or of the exporter, must not exceed."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.core.choices import Graph, InputType, ModelSize, Precision
from dualexport.core.selection import parse_selections
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.pipeline.plan import plan_onnx

# size and selections -> layers, megabytes moved, attentions; uint8 input
LIMITS = {
    (ModelSize.N, ""): (90, 192, 8),
    (ModelSize.T, ""): (173, 1120, 18),
    (ModelSize.T, "T0:0.5"): (185, 609, 18),  # 0.55 of the megabytes without selection
}


@pytest.mark.parametrize(("size", "selections"), LIMITS)
def test_the_fp16_plan_stays_within_its_limits(tmp_path: Path, size: ModelSize, selections: str) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one")
    layers, megabytes, attentions = LIMITS[size, selections]
    network = build_random_network(size, 0, parse_selections(selections) if selections else ())
    options = OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8)
    plan = plan_onnx(export_onnx(network, tmp_path / "folded.onnx", options, parent=None).path)
    assert len(plan.layers) <= layers
    assert plan.moved_bytes <= megabytes * 1e6
    assert (plan.attentions, plan.fused_attentions) == (attentions, attentions)
    assert plan.work_shares["fp16"] > 0.999
    assert "fp32" not in plan.work_shares
