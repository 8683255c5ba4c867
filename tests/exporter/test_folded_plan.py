"""What the compiler makes of the folded graph: limits that a change of a fold, or of the exporter, must not exceed."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.contracts import InputType, ModelSize, Precision
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.runtimes.planning import plan_onnx

# size, input -> layers, megabytes moved, attentions
LIMITS = {
    (ModelSize.N, InputType.FLOAT32): (90, 200, 8),
    (ModelSize.T, InputType.UINT8): (173, 1120, 18),
}


@pytest.mark.parametrize(("size", "input_type"), LIMITS)
def test_the_fp16_plan_stays_within_its_limits(
    tmp_path: Path, exported: Path, size: ModelSize, input_type: InputType
) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one")
    layers, megabytes, attentions = LIMITS[size, input_type]
    path = exported / "dualformer-n.fp16.onnx"
    if size is not ModelSize.N:
        path = tmp_path / "folded.onnx"
        options = OnnxOptions(precision=Precision.FP16, input_type=input_type)
        export_onnx(build_random_network(size, seed=0), path, options, parent=None)
    plan = plan_onnx(path)
    assert len(plan.layers) <= layers
    assert plan.moved_bytes <= megabytes * 1e6
    assert (plan.attentions, plan.fused_attentions) == (attentions, attentions)
    assert plan.work_shares["fp16"] > 0.999
    assert "fp32" not in plan.work_shares
