"""The plan of one network is one table, whichever release of TensorRT describes it."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from dualexport.core.choices import Precision
from dualexport.graphs.work import GraphWork
from dualexport.runtimes.plans.attribution import make_plan
from dualexport.runtimes.plans.layer_kind import LayerKind, classify_layer, precision_in_tactic
from dualexport.runtimes.plans.parse import Compilation, parse_build_log
from dualexport.runtimes.plans.plan import EnginePlan
from dualexport.runtimes.plans.precision import require_precision
from support.dialects import Layer, Tensor, name_tactic, read_eleven, with_residual, write_ten

# The layers of size n with INT8 linear layers and FP16 attention, as TensorRT 11's builder lists them.
RECORDED = gzip.decompress((Path(__file__).parent / "nano-int8.layers.gz").read_bytes()).decode()
LAYERS = read_eleven(RECORDED)
Change = Callable[[Layer], Layer]


def unchanged(layer: Layer) -> Layer:
    return layer


def add_residuals(layer: Layer) -> Layer:
    """A release that lets the linear layers before a residual add it."""
    return with_residual(layer) if "mlp.fc2/" in layer.name or "attn.proj/" in layer.name else layer


def count_work() -> GraphWork:
    """The work that the ONNX file of these layers holds: a product for each constant matrix."""
    macs, precisions, weights = {}, {}, {}
    for layer in parse_build_log(RECORDED):
        matrix = max(layer.weights, key=lambda one: one.elements, default=None)
        if layer.kind.multiplies_matrices and matrix is not None:
            node = layer.origins[0]
            weights[node] = matrix.elements
            macs[node] = layer.outputs[0].elements * matrix.dims[0]
            precisions[node] = Precision.INT8 if matrix.dtype == "int8" else Precision.FP16
    return GraphWork(macs, (), (), precisions, weights)


WORK = count_work()


def plan_of(log: str) -> EnginePlan:
    return make_plan("n.onnx", Compilation(log, None, "TensorRT"), WORK)


def test_the_recorded_plan_is_an_int8_one() -> None:
    plan = plan_of(RECORDED)
    assert len(plan.layers) == len(LAYERS) > 100
    assert plan.work_shares["int8"] > 0.4
    assert set(plan.layers_by_kind) >= {LayerKind.GEMM, LayerKind.ATTENTION, LayerKind.NORMALIZATION}
    require_precision(plan, Precision.INT8)


@pytest.mark.parametrize("early", [True, False], ids=["10.0 to 10.4", "10.5 to 10.16"])
@pytest.mark.parametrize("tactics", [name_tactic, unchanged], ids=["named kernels", "unnamed kernels"])
def test_one_plan_is_one_table_in_three_dialects(early: bool, tactics: Change) -> None:
    expected, plan = plan_of(RECORDED), plan_of(write_ten(tuple(map(tactics, LAYERS)), early=early))
    assert plan.layers_by_kind == expected.layers_by_kind
    assert plan.work_shares == expected.work_shares
    assert plan.moved_bytes / 1e6 == pytest.approx(expected.moved_bytes / 1e6, abs=0.01)
    assert plan.weight_bytes / 1e6 == pytest.approx(expected.weight_bytes / 1e6, rel=0.02)
    require_precision(plan, Precision.INT8)


@pytest.mark.parametrize("early", [True, False], ids=["10.0 to 10.4", "10.5 to 10.16"])
@pytest.mark.parametrize("tactics", [name_tactic, unchanged], ids=["named kernels", "unnamed kernels"])
def test_an_int8_product_that_adds_an_fp16_residual_stays_int8(early: bool, tactics: Change) -> None:
    layers = tuple(add_residuals(tactics(layer)) for layer in LAYERS)
    plan = plan_of(write_ten(layers, early=early))
    assert plan.work_shares == plan_of(RECORDED).work_shares
    require_precision(plan, Precision.INT8)


def test_a_first_product_that_reads_frames_is_what_it_puts_out() -> None:
    frames, out = Tensor("clip", "392,96", "UInt8"), Tensor("y", "392,64", "Half")
    layer = Layer("embed/Gemm", "gemm", (frames,), (), (out,), "", "[ONNX Layer: embed/Gemm]")
    (read,) = parse_build_log(write_ten((layer,), early=False))
    assert read.precision is Precision.FP16


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64_stage3", Precision.INT8),
        ("sm80_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize64x64x64", Precision.INT8),
        ("sm75_xmma_fprop_implicit_gemm_interleaved_i8816_i8i8_i8i32", Precision.INT8),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x32", Precision.FP16),
        ("ampere_h16816gemm_128x64_ldg8_stages_64x3_tn_v1", Precision.FP16),
        ("sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32", Precision.FP16),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize64x64x32", Precision.FP32),
        ("ampere_scudnn_128x64_relu_small_nn_v1", Precision.FP32),
        ("__myelin_CASK_STUB", None),
    ],
)
def test_a_kernel_s_name_tells_what_it_multiplies(tactic: str, precision: Precision | None) -> None:
    assert precision_in_tactic(tactic) is precision


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MulMinMaxRouCas", LayerKind.POINTWISE),
        ("FcCas", LayerKind.GEMM),
        ("ResTraRes", LayerKind.MOVEMENT),
        ("ConSliRep", LayerKind.MOVEMENT),
        ("CorAdd", LayerKind.CONVOLUTION),
        ("CasMeaSubMulMeaAddSqrDivMul", LayerKind.NORMALIZATION),
        ("MulMaxSubExpSumDiv", LayerKind.SOFTMAX),
        ("MulMaxrSubExpSumDiv", LayerKind.SOFTMAX),
        ("MovTra", LayerKind.MOVEMENT),
    ],
)
def test_kernels_named_in_three_letters_are_what_those_in_four_are(name: str, kind: LayerKind) -> None:
    assert classify_layer(f"__myl_{name}_myl0_3", "kgen", "") is kind


def test_weights_among_the_inputs_are_no_activations() -> None:
    half = "Half"
    layer = Layer(
        "fc/Gemm",
        "gemm",
        (Tensor("x", "8,64", half),),
        (Tensor("__mye12_dconst", "64,256", half), Tensor("fc_alpha", "1", "Float"), Tensor("fc_beta", "1", "Float")),
        (Tensor("y", "8,256", half),),
        "",
        "[ONNX Layer: fc/Gemm]",
    )
    (read,) = parse_build_log(write_ten((layer,), early=True))
    assert read.moved_bytes == 2 * 8 * (64 + 256)
    assert read.weight_bytes == 2 * math.prod((64, 256)) + 8
