"""Limits of the folded graph's compiled plan, which a change of a fold, or of the exporter, must not exceed."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.core.choices import Graph, InputType, ModelSize, Precision
from dualexport.core.manifest import read_manifest
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.pipeline.plan import plan_onnx
from dualexport.runtimes.plans.plan import EnginePlan
from support.engines import require_builder

# layers, megabytes moved, attentions; uint8 input
LIMITS = {ModelSize.N: (90, 192, 8), ModelSize.T: (173, 1120, 18)}
SELECTING_LIMITS = (185, 609, 18)  # of size t with T0:0.5: 0.55 of the megabytes without selection


@pytest.mark.slow
@pytest.mark.parametrize("size", LIMITS)
def test_the_fp16_plan_stays_within_its_limits(tmp_path: Path, size: ModelSize) -> None:
    require_builder()
    options = OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8)
    artifact = export_onnx(build_random_network(size, 0), tmp_path / "folded.onnx", options, parent=None)
    assert_within(LIMITS[size], plan_onnx(artifact.path))


@pytest.mark.slow
def test_the_fp16_plan_of_a_network_that_selects_stays_within_its_limits(size_t: Path) -> None:
    require_builder()
    assert_within(SELECTING_LIMITS, plan_onnx(read_manifest(size_t).artifact_of("onnx", Precision.FP16).path))


def assert_within(limits: tuple[int, int, int], plan: EnginePlan) -> None:
    layers, megabytes, attentions = limits
    assert len(plan.layers) <= layers
    assert plan.moved_bytes <= megabytes * 1e6
    assert (plan.attentions, plan.fused_attentions) == (attentions, attentions)
    assert plan.work_shares["fp16"] > 0.999
    assert "fp32" not in plan.work_shares
