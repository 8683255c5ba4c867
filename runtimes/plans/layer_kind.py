"""Tells what a compiled layer does from the names that TensorRT gives it.

The graph compiler inside TensorRT names a generated kernel after its operations, four letters each:
`__myl_ReshTranReshAddCastMeanSub_myl0_3` reshapes, transposes, adds, casts, takes a mean and subtracts it. TensorRT
10.0 to 10.4 (JetPack 6) takes three letters, `__myl_ResTraResAddCasMeaSub_myl0_3`, and so does this module.
"""

from __future__ import annotations

import re
from enum import Enum

from ...core.choices import Precision

_KERNEL_NAME = re.compile(r"^__myl_([A-Za-z0-9]+?)_(?:myl|0x)")
_CONVOLVES = re.compile("fprop|conv")
_OPERATION = re.compile(r"[A-Z][a-z0-9]*")


class LayerKind(str, Enum):
    """The work that a compiled layer spends its time on."""

    GEMM = "gemm"
    ATTENTION = "attention"
    CONVOLUTION = "convolution"
    NORMALIZATION = "normalization"
    SOFTMAX = "softmax"
    POINTWISE = "pointwise"
    MOVEMENT = "movement"
    OTHER = "other"

    @property
    def multiplies_matrices(self) -> bool:
        """True for layers that run on tensor cores."""
        return self in (LayerKind.GEMM, LayerKind.ATTENTION, LayerKind.CONVOLUTION)


# How names of kernels tell the types that they multiply, a telling part a precision, the narrowest first.
_TACTICS = (
    (Precision.FP8, re.compile(r"e4m3|fp8|f8f8|qmma")),
    (Precision.INT8, re.compile(r"i8i8|i8f32_i8|s8s8|imma|int8|i8816|i16832")),
    (Precision.FP16, re.compile(r"f16f16|bf16bf16|hmma|h16816|h1688|h884|fp16")),
    (Precision.FP32, re.compile(r"f32f32|tf32|sgemm|scudnn")),
)
_LETTERS = 3
_MULTIPLYING = {"Fc", "Gem", "Mat"}
_WHOLE = {"Maxr", "Expa", "Conv"}  # of names that three letters would confuse with Max, Exp and Conc

_NO_KERNEL = {"signal", "wait", "noop", "no_op", "constant", "shape_call"}  # synchronization and bookkeeping
_REARRANGING = {"Mov", "Tra", "Res", "Con", "Sli", "Rep", "Gat", "Cas", "Cop", "Pad", "Expa"}
_BY_TYPE = {
    "gemm": LayerKind.GEMM,
    "matrixmultiply": LayerKind.GEMM,
    "matrix_multiply": LayerKind.GEMM,
    "fullyconnected": LayerKind.GEMM,
    "correlation": LayerKind.CONVOLUTION,
    "softmax": LayerKind.SOFTMAX,
    "normalization": LayerKind.NORMALIZATION,
    "reformat": LayerKind.MOVEMENT,
    "shuffle": LayerKind.MOVEMENT,
    "slice": LayerKind.MOVEMENT,
    "concatenation": LayerKind.MOVEMENT,
    "padding": LayerKind.MOVEMENT,
    "gather": LayerKind.MOVEMENT,
    "cast": LayerKind.MOVEMENT,
    "copy": LayerKind.MOVEMENT,
    "reduce": LayerKind.POINTWISE,
    "pointwise": LayerKind.POINTWISE,
    "pointwisev2": LayerKind.POINTWISE,
    "elementwise": LayerKind.POINTWISE,
    "unary": LayerKind.POINTWISE,
    "activation": LayerKind.POINTWISE,
    "scale": LayerKind.POINTWISE,
}


def runs_a_kernel(layer_type: str) -> bool:
    """False for stream synchronization and constants, which do no work of their own."""
    return bool(layer_type) and layer_type.casefold() not in _NO_KERNEL


def classify_layer(name: str, layer_type: str, tactic: str) -> LayerKind:
    """The kind of a layer, from its name, its `LayerType` and the name of its tactic."""
    generated = _KERNEL_NAME.match(name)
    if "mha" in name.casefold() or "mha" in tactic.casefold():
        return LayerKind.ATTENTION
    if layer_type.casefold() in _BY_TYPE:
        return _BY_TYPE[layer_type.casefold()]
    if generated:
        return _classify_operations(_OPERATION.findall(generated[1]), tactic)
    if "conv" in layer_type.casefold() or _CONVOLVES.search(tactic.casefold()):
        return LayerKind.CONVOLUTION
    if "gemm" in layer_type.casefold() or "gemm" in tactic.casefold():
        return LayerKind.GEMM
    return LayerKind.OTHER


def dequantizes_first(name: str) -> bool:
    """True for a generated kernel that casts and scales what it multiplies: `__myl_CastMulCastCastMulFc_myl0_47`."""
    generated = _KERNEL_NAME.match(name)
    operations = [operation[:_LETTERS] for operation in _OPERATION.findall(generated[1])] if generated else []
    product = next((index for index, operation in enumerate(operations) if operation in _MULTIPLYING), 0)
    return {"Cas", "Mul"} <= set(operations[:product])


def precision_in_tactic(tactic: str) -> Precision | None:
    """The type that a kernel multiplies, where its name tells: `sm80_xmma_gemm_i8i8_i8i32_f32_tn` -> INT8."""
    name = tactic.casefold()
    return next((precision for precision, pattern in _TACTICS if pattern.search(name)), None)


def _classify_operations(operations: list[str], tactic: str) -> LayerKind:
    used = {name if name in _WHOLE else name[:_LETTERS] for name in operations}
    if _MULTIPLYING & used:
        return LayerKind.GEMM
    if {"Cor", "Conv"} & used or ("Con" in used and _CONVOLVES.search(tactic.casefold())):
        return LayerKind.CONVOLUTION
    if used <= _REARRANGING:
        return LayerKind.MOVEMENT
    if {"Maxr", "Exp"} <= used or {"Max", "Sub", "Exp", "Sum"} <= used:
        return LayerKind.SOFTMAX
    if {"Mea", "Sub"} <= used or {"Sqr", "Div"} <= used or "Rsq" in used:
        return LayerKind.NORMALIZATION
    return LayerKind.POINTWISE
