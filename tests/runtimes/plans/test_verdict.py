"""Two plans give a verdict on INT8."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dualexport.core.choices import DeviceName
from dualexport.runtimes.plans.devices import DEVICES
from dualexport.runtimes.plans.layer_kind import LayerKind
from dualexport.runtimes.plans.plan import EnginePlan, PlanLayer, PlanTensor
from dualexport.runtimes.plans.verdict import judge

ORIN = DEVICES[DeviceName.AGX_ORIN]


def make_plan(dtype: str, moved: int, *, asked: str, macs: int = 10**9) -> EnginePlan:
    """One product in `dtype`, that moves `moved` bytes."""
    tensor = PlanTensor("x", (8,), dtype, "")
    gemm = PlanLayer("g", LayerKind.GEMM, (tensor,), (tensor,), (tensor,), ("fc1/MatMul",), moved, macs)
    return EnginePlan("m.onnx", "TensorRT 10.3", "engine inspector", (gemm,), 0, 0, macs, asked_shares={asked: 1.0})


def test_fewer_bytes_and_int8_products_are_worth_it() -> None:
    verdict = judge(make_plan("float16", 2 * 10**8, asked="fp16"), make_plan("int8", 10**8, asked="int8"), ORIN)
    assert verdict.speedup == pytest.approx(2.0)
    assert "INT8 is worth it on agx-orin: estimated 2.00x as fast as FP16" in verdict.sentences[0]
    assert "204.8 GB/s" in verdict.sentences[0]
    assert len(verdict.sentences) == 2


def test_int8_that_moves_more_is_not_worth_it_and_the_compiler_is_named() -> None:
    int8 = replace(make_plan("int8", 3 * 10**8, asked="int8"), source="build log")
    verdict = judge(make_plan("float16", 2 * 10**8, asked="fp16"), int8, ORIN)
    assert "keep FP16" in verdict.sentences[0]
    assert "upper bound" in verdict.sentences[-1]


def test_a_gain_that_is_hardly_worth_a_calibration_is_called_little() -> None:
    verdict = judge(make_plan("float16", 103_000_000, asked="fp16"), make_plan("int8", 10**8, asked="int8"), ORIN)
    assert verdict.sentences[0].startswith("INT8 gains little on agx-orin: estimated 1.03x as fast as FP16")
