"""Counts the work in an ONNX graph, node by node, under the names that TensorRT's parser gives the nodes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ..core.choices import Precision
from ..core.errors import PlanError
from .batch import fix_batch
from .load import infer_shapes, load_graph

Shapes = Mapping[str, tuple[int, ...]]

# What may stand between an attention's softmax and its two products without making it another computation.
_PASSED_OVER = {
    "Add",
    "Cast",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Identity",
    "Mul",
    "QuantizeLinear",
    "Reshape",
    "Sub",
    "Transpose",
    "Unsqueeze",
    "Squeeze",
    "Where",
}
_PRODUCTS = {"MatMul", "Einsum"}
_MOVES = {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"}
_PRECISIONS = {
    onnx.TensorProto.FLOAT: Precision.FP32,
    onnx.TensorProto.FLOAT16: Precision.FP16,
    onnx.TensorProto.BFLOAT16: Precision.FP16,
}
_FLOAT8 = (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2)


@dataclass(frozen=True, slots=True)
class GraphWork:
    """The products that a graph asks to be computed.

    `macs` are the multiply-accumulates of each product and convolution; `attentions` holds, for each softmax between
    two products, the names of those nodes. `uncounted` are products whose shapes the file does not give.
    `precisions` are what the graph asks each of `macs` to be computed in; a node in another type is not in it.
    `weights` are the numbers in the matrix or kernel of each of `macs` that has a constant one.
    """

    macs: Mapping[str, int]
    attentions: tuple[frozenset[str], ...]
    uncounted: tuple[str, ...]
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the multiply-accumulates that the graph asks for in each precision: "fp16", "int8"."""
        work = Counter[str]()
        for name, count in self.macs.items():
            work[self.precisions[name].value if name in self.precisions else "other"] += count
        total = sum(work.values())
        order = (*(precision.value for precision in Precision), "other")
        return {name: work[name] / total for name in order if work[name]}


def read_graph_work(path: Path) -> GraphWork:
    """The work in the ONNX file at `path`, at the largest batch of a range.

    Raises GraphError when it is no ONNX file, PlanError when its inputs are dynamic.
    """
    model = load_graph(path)
    fix_batch(model)
    return count_work(model)


def count_work(model: onnx.ModelProto) -> GraphWork:
    """The work in `model`; raises PlanError when its inputs are dynamic."""
    _refuse_dynamic_inputs(model)
    inferred = infer_shapes(model, data_prop=True)
    shapes = _list_shapes(inferred)
    macs: dict[str, int] = defaultdict(int)
    uncounted = []
    for node in model.graph.node:
        count = _count_known(node, shapes)
        if count is None:
            uncounted.append(parser_name(node))
        elif count:
            macs[parser_name(node)] += count
    precisions = _find_precisions(inferred, macs.keys())
    attentions = tuple(_find_attentions(model.graph))
    return GraphWork(dict(macs), attentions, tuple(uncounted), precisions, _count_weights(inferred, macs.keys()))


def parser_name(node: onnx.NodeProto) -> str:
    """The node's name as TensorRT's parser uses it: an unnamed node is called after its first output."""
    return node.name or f"node_of_{node.output[0]}"


def _refuse_dynamic_inputs(model: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    for entry in model.graph.input:
        dims = entry.type.tensor_type.shape.dim
        if entry.name not in weights and any(not dim.HasField("dim_value") for dim in dims):
            shown = ", ".join(dim.dim_param or str(dim.dim_value) for dim in dims)
            raise PlanError(
                f"input {entry.name} has the dynamic shape ({shown}); a plan needs every extent",
                fix="export with a fixed batch size",
            )


def _find_precisions(graph: onnx.GraphProto, products: Collection[str]) -> dict[str, Precision]:
    """The precision that each product is asked for in: 8 bits where both factors are dequantized, or its output's type.

    A factor may be moved between its dequantization and the product.
    """
    types = {entry.name: entry.type.tensor_type.elem_type for entry in (*graph.value_info, *graph.output)}
    types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    dequantized: dict[str, Precision] = {}
    for node in graph.node:  # in an order in which what a node reads is made before it
        if node.op_type == "DequantizeLinear":
            is_float = types.get(node.input[0]) in _FLOAT8
            dequantized[node.output[0]] = Precision.FP8 if is_float else Precision.INT8
        elif node.op_type in _MOVES and node.input[0] in dequantized:
            dequantized[node.output[0]] = dequantized[node.input[0]]
    found = {}
    for node in graph.node:
        if parser_name(node) in products:
            eight = dequantized.get(node.input[0]) if dequantized.keys() >= set(node.input[:2]) else None
            precision = eight or _PRECISIONS.get(types.get(node.output[0], 0))
            if precision is not None:
                found[parser_name(node)] = precision
    return found


def _count_weights(graph: onnx.GraphProto, products: Collection[str]) -> dict[str, int]:
    """The numbers in each product's constant factor, which may be moved or dequantized before the product."""
    constants = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type in _MOVES | {"DequantizeLinear"} and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        elif parser_name(node) in products and (known := constants.keys() & set(node.input[:2])):
            found[parser_name(node)] = max(constants[name] for name in known)
    return found


def _list_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        dims = entry.type.tensor_type.shape.dim
        if entry.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[entry.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _count_known(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """`_count_macs`, None also where the file's shapes do not fit the operator."""
    try:
        return _count_macs(node, shapes)
    except (IndexError, ValueError):
        return None


def _count_macs(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """Multiply-accumulates of `node`: 0 where it is no product, None where a shape is missing."""
    if node.op_type not in {"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention"}:
        return 0
    operands = [shapes.get(name) for name in node.input]
    out = shapes.get(node.output[0])
    if any(shape is None for shape in operands[:2]) or out is None:
        return None
    first, second = (shape for shape in operands[:2] if shape is not None)
    if node.op_type == "MatMul":
        return math.prod(out) * first[-1]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(out) * first[0 if transposed else 1]
    if node.op_type == "Conv":  # weights (out, in / groups, *kernel)
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":  # weights (in, out / groups, *kernel)
        return math.prod(first) * math.prod(second[1:])
    if node.op_type == "Einsum":
        return _count_einsum(node, (first, second)) if len(operands) == 2 else None
    if operands[2] is None or len(first) != 4:
        return None
    # Attention: q (batch, heads, queries, d), k (batch, heads, keys, d), v (batch, heads, keys, d')
    return math.prod(first[:3]) * second[2] * (first[3] + operands[2][3])


def _count_einsum(node: onnx.NodeProto, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> int | None:
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation:
        return None
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        extents.update(zip(term, shape, strict=True))
    return math.prod(extents.values())


def _find_attentions(graph: onnx.GraphProto) -> Iterator[frozenset[str]]:
    producers = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            consumers[name].append(node)

    def before(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [producers[name] for name in node.input if name in producers]

    def after(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [consumer for name in node.output for consumer in consumers[name]]

    for node in graph.node:
        if node.op_type == "Attention":
            yield frozenset({parser_name(node)})
        if node.op_type == "Softmax":
            products = _nearest_product(node, before), _nearest_product(node, after)
            if None not in products:
                yield frozenset(parser_name(part) for part in (node, *products) if part is not None)


def _nearest_product(
    softmax: onnx.NodeProto, step: Callable[[onnx.NodeProto], list[onnx.NodeProto]]
) -> onnx.NodeProto | None:
    queue, seen = step(softmax), set()
    for node in queue:  # grows while it is walked
        if node.op_type in _PRODUCTS:
            return node
        if node.op_type in _PASSED_OVER and parser_name(node) not in seen:
            seen.add(parser_name(node))
            queue += step(node)
    return None
