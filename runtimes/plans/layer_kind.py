"""Tells what a compiled layer does from the names that TensorRT gives it.

The graph compiler inside TensorRT names a generated kernel after its operations, four letters each:
`__myl_ReshTranReshAddCastMeanSub_myl0_3` reshapes, transposes, adds, casts, takes a mean and subtracts it.
"""

from __future__ import annotations

import re

from .plan import LayerKind

_KERNEL_NAME = re.compile(r"^__myl_([A-Za-z0-9]+?)_(?:myl|0x)")
_OPERATION = re.compile(r"[A-Z][a-z0-9]*")

_NO_KERNEL = {"signal", "wait", "noop", "no_op", "constant", "shape_call"}  # synchronization and bookkeeping
_REARRANGING = {"Move", "Tran", "Resh", "Conc", "Slic", "Repl", "Gath", "Cast", "Copy", "Pad", "Padd", "Expa"}
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
    """Whether a layer of this type does any work of its own; stream synchronization and constants do not."""
    return bool(layer_type) and layer_type.casefold() not in _NO_KERNEL


def classify_layer(name: str, layer_type: str, tactic: str) -> LayerKind:
    """The kind of a layer, from its name, its `LayerType` and the name of its tactic."""
    generated = _KERNEL_NAME.match(name)
    if "mha" in name.casefold() or "mha" in tactic.casefold():
        return LayerKind.ATTENTION
    if layer_type.casefold() in _BY_TYPE:
        return _BY_TYPE[layer_type.casefold()]
    if generated:
        return _classify_operations(_OPERATION.findall(generated[1]))
    if "conv" in layer_type.casefold() or re.search("fprop|conv", tactic.casefold()):
        return LayerKind.CONVOLUTION
    if "gemm" in layer_type.casefold() or "gemm" in tactic.casefold():
        return LayerKind.GEMM
    return LayerKind.OTHER


def _classify_operations(operations: list[str]) -> LayerKind:
    used = set(operations)
    if {"Fc", "Gemm", "Matm"} & used:
        return LayerKind.GEMM
    if {"Corr", "Conv"} & used:
        return LayerKind.CONVOLUTION
    if used <= _REARRANGING:
        return LayerKind.MOVEMENT
    if {"Maxr", "Exp"} <= used:
        return LayerKind.SOFTMAX
    if {"Mean", "Sub"} <= used or {"Sqrt", "Div"} <= used or "Rsqr" in used:
        return LayerKind.NORMALIZATION
    return LayerKind.POINTWISE
