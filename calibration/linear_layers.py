"""The linear layers of a folded graph that are worth computing in INT8, under the network's own names."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from ..core.errors import QuantizationError

BLOCKS = "blocks."
QUANTIZED = ("qkv", "q", "kv", "proj", "fc1", "fc2")


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A linear layer of a block: `node` is the product that computes it, `reads` the tensor (rows, inputs) it reads.

    `weight` is float32 (outputs, inputs). A layer with several `parts` puts out (parts, rows, outputs / parts), and
    has no bias.
    """

    name: str
    node: str
    reads: str
    weight: NDArray[np.float32]
    bias: str | None = None
    parts: int = 1

    @property
    def scales(self) -> int:
        """Number of scales of its INT8 weight: one a stacked part, which compiles into one product, else one an output."""
        return self.parts if self.parts > 1 else len(self.weight)


def find_layers(model: ModelProto) -> tuple[LinearLayer, ...]:
    """The linear layers of `model`'s blocks, in the graph's order.

    Raises QuantizationError for a graph that is quantized already, or that is not the folded graph.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise QuantizationError(
            "the graph is quantized already", fix="give the folded FP32 graph that `dualexport onnx` wrote"
        )
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        name = node.name.rpartition("/")[0]
        is_linear = node.op_type in ("Gemm", "MatMul") and name.rpartition(".")[2] in QUANTIZED
        if is_linear and name.startswith(BLOCKS) and node.input[1] in weights:
            found.append(_read_layer(name, node, numpy_helper.to_array(weights[node.input[1]]), makers))
    if not found or not any(layer.parts > 1 for layer in found):
        raise QuantizationError(
            "this is not the folded graph: its query, key and value layers are not stacked",
            fix="export with `dualexport onnx --graph folded`",
        )
    return tuple(found)


def match_layers(layers: Sequence[LinearLayer], patterns: Sequence[str]) -> frozenset[str]:
    """Names of the layers that a pattern matches: `blocks.0.*`, `*.fc2`, or a whole name.

    Raises QuantizationError for a pattern that matches none.
    """
    kept: set[str] = set()
    for pattern in patterns:
        matched = {layer.name for layer in layers if fnmatch.fnmatchcase(layer.name, pattern)}
        if not matched:
            raise QuantizationError(
                f"no linear layer is called {pattern}", fix=f"use names like {layers[0].name}, or *.fc2"
            )
        kept |= matched
    return frozenset(kept)


def block_of(layer: str) -> str:
    """`blocks.2.5` of `blocks.2.5.attn.qkv`."""
    return ".".join(layer.split(".")[:3])


def shorten_names(layers: Sequence[LinearLayer], names: Collection[str]) -> tuple[str, ...]:
    """Patterns that match just `names` of `layers`: `blocks.2.4.*` for a block of which all are among them."""
    blocks = {block_of(layer.name) for layer in layers}
    whole = blocks - {block_of(layer.name) for layer in layers if layer.name not in names}
    chosen = [layer.name for layer in layers if layer.name in names]
    return tuple(dict.fromkeys(f"{block_of(name)}.*" if block_of(name) in whole else name for name in chosen))


def _read_layer(name: str, node: NodeProto, weight: NDArray[np.floating], makers: dict[str, NodeProto]) -> LinearLayer:
    if node.op_type == "Gemm":
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if not attributes.get("transB") or attributes.get("transA") or weight.ndim != 2:
            raise QuantizationError(f"{node.name} is no linear layer of the folded graph", fix="export again")
        bias = node.input[2] if len(node.input) > 2 else None
        return LinearLayer(name, node.name, node.input[0], weight.astype(np.float32), bias)
    maker = makers.get(node.input[0])
    if weight.ndim != 3 or maker is None or maker.op_type != "Unsqueeze":
        raise QuantizationError(
            f"{node.name} is no product of the folded graph", fix="export with `dualexport onnx --graph folded`"
        )
    parts, inputs, _ = weight.shape
    rows = weight.transpose(0, 2, 1).reshape(-1, inputs)  # (parts * outputs of a part, inputs)
    return LinearLayer(name, node.name, maker.input[0], rows.astype(np.float32), parts=parts)
