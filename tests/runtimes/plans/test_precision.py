"""The proof of precision: the same for an engine that `trt` builds and for a plan that `plan --require` judges."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from dualexport.core.choices import Precision
from dualexport.core.errors import EngineError
from dualexport.runtimes.plans.layer_kind import LayerKind
from dualexport.runtimes.plans.plan import EnginePlan, PlanLayer, PlanTensor
from dualexport.runtimes.plans.precision import require_precision, shows_precision

MACS = 10_000
DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


def make_plan(asked: Mapping[str, float], built: Mapping[str, float]) -> EnginePlan:
    """One product a precision of `built`, with its share of the work; what is left over no layer is known for."""
    layers = []
    for name, share in built.items():
        tensor = PlanTensor("x", (8,), DTYPES[name], "")
        layers.append(
            PlanLayer(name, LayerKind.GEMM, (tensor,), (tensor,), (tensor,), (name,), macs=round(share * MACS))
        )
    return EnginePlan("m.onnx", "TensorRT", "engine inspector", tuple(layers), 0, 0, MACS, asked_shares=asked)


@pytest.mark.parametrize(
    ("precision", "asked", "built"),
    [
        (Precision.FP32, {"fp32": 1.0}, {"fp32": 1.0}),
        (Precision.FP16, {"fp32": 0.03, "fp16": 0.97}, {"fp32": 0.03, "fp16": 0.97}),  # the graph's own FP32 layers
        (Precision.INT8, {"fp16": 0.4, "int8": 0.6}, {"fp16": 0.404, "int8": 0.596}),
        (Precision.INT8, {"fp16": 0.4, "int8": 0.6}, {"fp16": 0.32, "int8": 0.48}),  # a fifth is not known
    ],
)
def test_an_engine_that_computes_as_its_graph_asks_is_proven(
    precision: Precision, asked: Mapping[str, float], built: Mapping[str, float]
) -> None:
    require_precision(make_plan(asked, built), precision)


@pytest.mark.parametrize(
    ("precision", "asked", "built", "words"),
    [
        (Precision.INT8, {"int8": 1.0}, {"fp16": 1.0}, "100.0% int8 in the graph, 100.0% fp16 built"),
        (Precision.INT8, {"fp16": 0.4, "int8": 0.6}, {"fp16": 0.41, "int8": 0.59}, "59.0% int8 built"),
        (Precision.INT8, {"fp16": 0.4, "int8": 0.6}, {"fp32": 0.1, "fp16": 0.3, "int8": 0.6}, "10.0% fp32"),
        (Precision.FP16, {"fp16": 1.0}, {"fp32": 0.015, "fp16": 0.985}, "1.5% fp32"),  # the proofs used to disagree
        (Precision.INT8, {"fp16": 1.0}, {"fp16": 1.0}, "asks for no int8"),
        (Precision.FP16, {"fp16": 1.0}, {"fp16": 0.3}, "does not show"),
    ],
)
def test_an_engine_that_does_not_is_refused(
    precision: Precision, asked: Mapping[str, float], built: Mapping[str, float], words: str
) -> None:
    with pytest.raises(EngineError, match=words.replace(".", r"\.")):
        require_precision(make_plan(asked, built), precision)


def test_too_few_known_layers_show_nothing() -> None:
    assert shows_precision(make_plan({"fp16": 1.0}, {"fp16": 0.5}))
    assert not shows_precision(make_plan({"fp16": 1.0}, {"fp16": 0.49}))


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("__myl_CastMulCastCastMulFc_myl0_47", Precision.FP16),  # a stack with a scale a part: dequantized first
        ("__myl_CasMulCasCasMulFc_myl0_47", Precision.FP16),  # as TensorRT 10.0 to 10.4 write it
        ("blocks.2.0.attn.qkv/MatMul_U312_myl0_47", Precision.INT8),
        ("__myl_FcMulAddCastMul_myl0_9", Precision.INT8),
    ],
)
def test_a_product_of_factors_that_were_dequantized_is_no_int8_product(name: str, precision: Precision) -> None:
    rows, weights = (PlanTensor(part, (3, 8, 8), "int8", "") for part in ("rows", "weights"))
    output = PlanTensor("y", (3, 8, 8), "float16", "")
    layer = PlanLayer(name, LayerKind.GEMM, (rows,), (output,), (weights,), ("qkv/MatMul",), macs=1)
    assert layer.precision is precision
