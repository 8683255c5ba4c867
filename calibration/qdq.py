"""Writes INT8 or FP8 into the folded graph: Q/DQ pairs around its linear layers, everything else as it was.

A quantized layer is `blocks.2.5.attn.proj/MatMul` of a dequantized activation and a dequantized weight (inputs,
outputs) with a scale an output, then `/Add` of its bias: the form that TensorRT compiles into one INT8 product. All
layers that read a tensor share its Q/DQ pair. Layers stacked into one batched product (query, key, value) stay one,
with one scale for all parts, whose ranges the folded graph has levelled: with a scale a part the compiler dequantizes
first and multiplies in FP16, and a scale an output would be a pass of its own behind the product.

In a float32 graph, meant for CPUs, a layer with a bias is one `/Gemm` whose bias is INT32, the form that ONNX Runtime
runs as one INT8 kernel, and a stacked product is one matrix product with its parts side by side, taken apart behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..core.choices import Precision
from ..core.errors import QuantizationError
from .calibrate import Calibration
from .formats import EightBits
from .linear_layers import LinearLayer

CPU_ZERO_POINT = 128
LAYER_NORM_EPSILON = 1e-5  # the network's
FIRST_HALF_SCALES = 19  # the opset since which Q/DQ scales may be float16


@dataclass(slots=True)
class _Rewriter:
    """Nodes and constants of the quantized graph as they are written; `half` says what the rest computes in."""

    half: bool
    eight: EightBits
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    quantized: dict[str, str] = field(default_factory=dict)

    @property
    def for_cpus(self) -> bool:
        """True for INT8 in a float32 graph; FP8 is written there as for GPUs, to be computed as it is."""
        return not self.half and self.eight.precision is Precision.INT8

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node called `name`/`operator`; returns its output, called `name`/`operator`.out."""
        node = f"{name}/{operator}"
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{node}.out"], name=node, **attributes))
        return f"{node}.out"

    def constant(self, values: NDArray[np.generic], name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def scale(self, values: NDArray[np.float32], name: str) -> str:
        return self.constant(values.astype(np.float16 if self.half else np.float32), name)

    def eight_bits(self, values: NDArray[Any], name: str) -> str:
        """A constant in 8 bits: in the graph for CPUs, whose products take nothing else fast, UINT8 around 128."""
        if self.for_cpus:
            return self.constant((values.astype(np.int16) + CPU_ZERO_POINT).astype(np.uint8), name)
        content = np.ascontiguousarray(values.astype(self.eight.dtype)).tobytes()
        self.constants.append(helper.make_tensor(name, self.eight.onnx_type, values.shape, content, raw=True))
        return name

    def activation(self, tensor: str, scale: float) -> str:
        """The Q/DQ pair on `tensor`: one for all its readers."""
        if tensor not in self.quantized:
            name = f"{tensor.rpartition('/')[0]}.{tensor.rpartition('/')[2]}"
            by = self.scale(np.array(scale, np.float32), f"{name}.scale")
            zero = self.eight_bits(np.zeros((), np.int8), f"{name}.zero_point")
            inside = self.add("QuantizeLinear", (tensor, by, zero), name)
            self.quantized[tensor] = self.add("DequantizeLinear", (inside, by, zero), name)
        return self.quantized[tensor]

    def standardize(self, layer: LinearLayer) -> None:
        """Standardize what `layer` reads before its product, as INT8 needs; in FP16 that is done behind it."""
        ones = np.ones(layer.weight.shape[1], np.float16 if self.half else np.float32)
        given = (str(layer.standardizes), self.constant(ones, f"{layer.name}.ones"))
        self.add("LayerNormalization", given, layer.name, axis=-1, epsilon=LAYER_NORM_EPSILON)
        self.nodes[-1].output[0] = layer.reads

    def weight(self, values: NDArray[Any], scales: NDArray[np.float32], name: str, axis: int | None) -> str:
        """The dequantized weight, with a scale for each index of `axis`, or the only one for all."""
        scales = scales.reshape(()) if axis is None else scales
        given = (
            self.eight_bits(values, f"{name}.weight_{self.eight.precision.value}"),
            self.scale(scales, f"{name}.weight.scale"),
            self.eight_bits(np.zeros(scales.shape, np.int8), f"{name}.weight.zero_point"),
        )
        return self.add("DequantizeLinear", given, f"{name}.weight", **({} if axis is None else {"axis": axis}))


def quantize_graph(
    model: ModelProto, layers: Iterable[LinearLayer], calibration: Calibration, kept: frozenset[str] = frozenset()
) -> ModelProto:
    """A copy of the folded graph `model`, FP32 or FP16, all of `layers` in 8 bits but those named in `kept`.

    Raises QuantizationError for a layer that `calibration` does not know, an operator set without FP16 scales, or
    when every layer is kept.
    """
    chosen = {layer.node: layer for layer in layers if layer.name not in kept}
    if not chosen:
        raise QuantizationError("every linear layer is kept: nothing is left to quantize", fix="keep fewer layers")
    for layer in chosen.values():
        rounded = calibration.weights.get(layer.name)
        if rounded is None or rounded.values.shape != layer.weight.shape or len(rounded.scales) != layer.scales:
            raise QuantizationError(
                f"the calibration does not know {layer.name} as it is here", fix="calibrate this graph with --clips"
            )
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    rewriter = _Rewriter(
        any(tensor.data_type == TensorProto.FLOAT16 for tensor in constants.values()), calibration.eight
    )
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if not rewriter.for_cpus and opset < FIRST_HALF_SCALES:
        raise QuantizationError(
            f"the graph has opset {opset}, FP16 scales and FP8 need {FIRST_HALF_SCALES}",
            fix="export with --opset 19 or 20",
        )
    for node in model.graph.node:
        if quantized := chosen.get(node.name):
            _write_layer(rewriter, node, quantized, calibration, constants)
        else:
            rewriter.nodes.append(node)
    return assemble(model, rewriter.nodes, rewriter.constants)


def _write_layer(
    rewriter: _Rewriter,
    node: NodeProto,
    layer: LinearLayer,
    calibration: Calibration,
    constants: dict[str, TensorProto],
) -> None:
    """Write the quantized layer; its last node puts out what `node` did."""
    scale, rounded = calibration.ranges[layer.reads].scale, calibration.weights[layer.name]
    if layer.standardizes is not None:
        rewriter.standardize(layer)
    activation = rewriter.activation(layer.reads, scale)
    if not rewriter.for_cpus and layer.parts > 1:
        values = rounded.values.reshape(layer.parts, -1, rounded.values.shape[1]).transpose(0, 2, 1)
        weight = rewriter.weight(values, rounded.scales, layer.name, None)  # (parts, inputs, outputs of a part)
        rewriter.add("MatMul", (activation, weight), layer.name)  # the rows for every part
    elif not rewriter.for_cpus or layer.bias is None:
        axis = None if len(rounded.scales) == 1 and layer.parts == 1 else 1
        weight = rewriter.weight(rounded.values.T, rounded.output_scales if axis else rounded.scales, layer.name, axis)
        product = rewriter.add("MatMul", (activation, weight), layer.name)
        if layer.bias is not None:
            rewriter.add("Add", (product, layer.bias), layer.name)
        if layer.parts > 1:
            shape = np.array([-1, layer.parts, len(rounded.values) // layer.parts], np.int64)
            rows = rewriter.add("Reshape", (product, rewriter.constant(shape, f"{layer.name}.shape")), layer.name)
            rewriter.add("Transpose", (rows,), layer.name, perm=[1, 0, 2])  # (parts, rows, outputs of a part)
    else:
        weight = rewriter.weight(rounded.values, rounded.output_scales, layer.name, 0)
        bias_scale = rounded.output_scales * np.float32(scale)
        bias = np.rint(numpy_helper.to_array(constants[layer.bias]) / bias_scale).astype(np.int32)
        given = (
            rewriter.constant(bias, f"{layer.name}.bias_int32"),
            rewriter.scale(bias_scale, f"{layer.name}.bias.scale"),
        )
        offset = rewriter.add("DequantizeLinear", given, f"{layer.name}.bias", axis=0)
        rewriter.add("Gemm", (activation, weight, offset), layer.name, transB=1)
    rewriter.nodes[-1].output[0] = node.output[0]


def assemble(model: ModelProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto]) -> ModelProto:
    """A copy of `model` with these nodes and with `constants` beside its own, without what nothing reads any more."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    initializers = [tensor for tensor in (*model.graph.initializer, *constants) if tensor.name in needed]
    values = [value for value in graph.value_info if value.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)
    graph.value_info.extend(values)
    return made
