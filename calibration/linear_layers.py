"""The linear layers of a folded graph that are worth computing in INT8, under the network's own names."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

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
    has no bias. A layer that standardizes the tensor `standardizes` behind its product does not compute `reads`, which
    would be that tensor standardized; `node` is then the last of its nodes. `shares_input` where another operator reads
    `reads` too.
    """

    name: str
    node: str
    reads: str
    weight: NDArray[np.float32]
    bias: str | None = None
    parts: int = 1
    standardizes: str | None = None
    shares_input: bool = False

    @property
    def scales(self) -> int:
        """Number of scales of its 8-bit weight: one where nothing is added to its product, else one an output.

        The compiler applies a single scale as it multiplies, more of them in the pass that adds the bias. A batched
        product it computes in 8 bits only with one scale for all of it.
        """
        return len(self.weight) if self.bias else 1


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
    readers = {name: node for node in model.graph.node for name in node.input}
    found = []
    for node in model.graph.node:
        name = node.name.rpartition("/")[0]
        is_linear = node.op_type in ("Gemm", "MatMul") and name.rpartition(".")[2] in QUANTIZED
        if is_linear and name.startswith(BLOCKS) and node.input[1] in weights:
            weight = numpy_helper.to_array(weights[node.input[1]])
            if weight.ndim == 3:
                found.append(_read_stack(name, node, weight, makers.get(node.input[0])))
            elif _is_divided(node, readers):
                found.append(_read_dividing(name, node, weight, readers))
            else:
                found.append(_read_layer(name, node, weight))
    if not found or not any(layer.parts > 1 for layer in found):
        raise QuantizationError(
            "this is not the folded graph: its query, key and value layers are not stacked",
            fix="export with `dualexport onnx --graph folded`",
        )
    counts = Counter(name for node in model.graph.node for name in node.input)
    own = Counter(layer.reads for layer in found)
    return tuple(replace(layer, shares_input=counts[layer.reads] > own[layer.reads]) for layer in found)


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


def _read_layer(name: str, node: NodeProto, weight: NDArray[np.floating]) -> LinearLayer:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    is_transposed = bool(attributes.get("transB"))
    if is_transposed is not (node.op_type == "Gemm") or attributes.get("transA") or weight.ndim != 2:
        raise QuantizationError(f"{node.name} is no linear layer of the folded graph", fix="export again")
    bias = node.input[2] if len(node.input) > 2 else None
    rows = weight if is_transposed else weight.T  # (outputs, inputs)
    return LinearLayer(name, node.name, node.input[0], rows.astype(np.float32), bias)


def _read_stack(name: str, node: NodeProto, weight: NDArray[np.floating], maker: NodeProto | None) -> LinearLayer:
    if maker is None or maker.op_type != "Unsqueeze":
        raise _refuse_product(node)
    parts, inputs, _ = weight.shape
    rows = weight.transpose(0, 2, 1).reshape(-1, inputs)  # (parts * outputs of a part, inputs)
    return LinearLayer(name, node.name, maker.input[0], rows.astype(np.float32), parts=parts)


def _is_divided(product: NodeProto, readers: dict[str, NodeProto]) -> bool:
    """True for a product without a bias of its own that a factor of the same layer is multiplied with."""
    factor = readers.get(product.output[0])
    own = product.name.rpartition("/")[0]
    return len(product.input) == 2 and factor is not None and factor.name.startswith(f"{own}/Mul")


def _read_dividing(
    name: str, node: NodeProto, weight: NDArray[np.floating], readers: dict[str, NodeProto]
) -> LinearLayer:
    """The layer whose product of residual rows is divided by their deviation before its bias is added."""
    factor = readers.get(node.output[0])
    last = readers.get(factor.output[0]) if factor is not None else None
    if weight.ndim != 2 or factor is None or last is None or (factor.op_type, last.op_type) != ("Mul", "Add"):
        raise _refuse_product(node)
    (bias,) = (tensor for tensor in last.input if tensor != factor.output[0])
    reads = f"{name}/LayerNormalization"  # as the same layer's input is called where it is computed
    rows = weight if node.op_type == "Gemm" else weight.T  # (outputs, inputs)
    return LinearLayer(name, last.name, reads, rows.astype(np.float32), bias, standardizes=node.input[0])


def _refuse_product(node: NodeProto) -> QuantizationError:
    return QuantizationError(
        f"{node.name} is no product of the folded graph", fix="export with `dualexport onnx --graph folded`"
    )
