"""FP16 of an exported FP32 graph: half weights and tensors, with casts where half would lose the answer.

The softmax of attention and the mean over tokens of the folded graph stay float32 between two casts, as do the
statistics inside LayerNorm (its `stash_type`), and logits leave as float32. A strongly typed compiler then has nothing
left to decide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
# Sums that half would lose, and comparisons, for which runtimes have no half kernel on the CPU.
IN_FLOAT32 = re.compile(r".*\.attend\.softmax/Softmax|network/ReduceMean|.*/(ReduceMax|Greater|Equal)(_\d+)?")
AXES, SQUARE, EPSILON = (f"standardize.{name}" for name in ("axes", "square", "epsilon"))


def halve_graph(model: ModelProto, dividing_behind: Collection[str] = ()) -> ModelProto:
    """A copy of the FP32 graph `model` that computes in FP16, with the same inputs and outputs.

    Weights that are graph inputs become half too; every input but the first is one. The layers named in
    `dividing_behind` standardize by a factor on their product, for which the caller centres their weights
    (`centre_rows`).
    """
    half = ModelProto()
    half.CopyFrom(model)
    statistics = _divide_behind(half, dividing_behind)
    half = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    single = {node.name for node in half.graph.node if IN_FLOAT32.fullmatch(node.name)} | statistics
    _Halving(half, single | _views_read_by(single, half.graph.node)).apply()
    return onnx.shape_inference.infer_shapes(half, strict_mode=True)


def _views_read_by(single: Collection[str], nodes: Sequence[NodeProto]) -> set[str]:
    """The squeezes and unsqueezes that only the nodes `single` read: one cast before them then serves all readers.

    Scores are compared with each other in two views. With a cast behind each view the two may differ, as a runtime
    that computes in float32 may round before the one and not before the other; then fewer frames are kept than asked.
    """
    readers: dict[str, set[str]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    views: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in ("Squeeze", "Unsqueeze") and readers.get(node.output[0], {""}) <= {*single, *views}:
            views.add(node.name)
    return views


def _divide_behind(model: ModelProto, layers: Collection[str]) -> set[str]:
    """Rewrite LN(x) W^T + b as (x V^T) / std(x) + b in `layers`; return the names of the nodes that compute 1 / std(x).

    A LayerNormalization that nothing reads any more is dropped.
    """
    graph = model.graph
    norms = {node.output[0]: node for node in graph.node if node.op_type == "LayerNormalization"}
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    statistics: dict[str, float] = {}  # nodes, and the epsilon of their LayerNorm
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        layer = node.name.rpartition("/")[0]
        if layer not in layers or node.op_type != "Gemm":
            nodes.append(node)
            continue
        norm, bias = norms[node.input[0]], node.input.pop(2)
        (epsilon,) = (attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
        factor = _invert_deviation(layer, norm.input[0])
        statistics.update((one.name, epsilon) for one in factor)
        node.input[0] = norm.input[0]
        scaled = _make_node("Mul", f"{layer}/Mul", node.output[0], factor[-1].name)
        added = _make_node("Add", f"{layer}/Add_2", scaled.name, bias)
        nodes += [node, *factor, scaled, added]
        renamed[node.output[0]] = added.name
    read = {name for node in nodes for name in node.input}
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type != "LayerNormalization" or node.output[0] in read)
    if statistics:
        (epsilon,) = set(statistics.values())
        constants = {AXES: np.array([-1]), SQUARE: np.array(2, np.float32), EPSILON: np.array(epsilon, np.float32)}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return set(statistics)


def _invert_deviation(layer: str, rows: str) -> list[NodeProto]:
    """The nodes, in order, that compute one over the standard deviation of each row, as LayerNorm divides by it."""
    mean = _make_node("ReduceMean", f"{layer}/ReduceMean", rows, AXES)
    centred = _make_node("Sub", f"{layer}/Sub", rows, mean.name)
    squared = _make_node("Pow", f"{layer}/Pow", centred.name, SQUARE)
    variance = _make_node("ReduceMean", f"{layer}/ReduceMean_2", squared.name, AXES)
    positive = _make_node("Add", f"{layer}/Add", variance.name, EPSILON)
    deviation = _make_node("Sqrt", f"{layer}/Sqrt", positive.name)
    return [
        mean,
        centred,
        squared,
        variance,
        positive,
        deviation,
        _make_node("Reciprocal", f"{layer}/Reciprocal", deviation.name),
    ]


def _make_node(operator: str, name: str, *inputs: str) -> NodeProto:
    return helper.make_node(operator, inputs, [name], name)


class _Halving:
    """One pass over a graph in which each float32 tensor becomes half, with casts around the nodes that stay `single`.

    A tensor is cast where it is first read in the type that it was not made in.
    """

    def __init__(self, model: ModelProto, single: Collection[str]) -> None:
        graph = self.graph = model.graph
        typed = (*graph.input, *graph.output, *graph.value_info)
        self.single = single
        self.constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == SINGLE}
        self.floats = {value.name for value in typed if value.type.tensor_type.elem_type == SINGLE} | set(
            self.constants
        )
        self.names = {name for node in graph.node for name in (node.name, *node.input)}
        self.forms: dict[str, dict[int, str]] = {}  # of a tensor: its name in float32 and in half
        self.makers = {name: node for node in graph.node for name in node.output}
        self.nodes: list[NodeProto] = []

    def apply(self) -> None:
        graph = self.graph
        for index, value in enumerate(graph.input):
            if value.name in self.floats:
                self.forms[value.name] = {HALF if index else SINGLE: value.name}
                value.type.tensor_type.elem_type = HALF if index else SINGLE
        outputs = {value.name for value in graph.output}
        for node in list(graph.node):
            self._add(node, outputs)
        del graph.value_info[:]
        del graph.node[:]
        graph.node.extend(self.nodes)

    def _add(self, node: NodeProto, outputs: Collection[str]) -> None:
        kind = SINGLE if node.name in self.single else HALF
        node.input[:] = [self._read(node, name, kind) for name in node.input]
        if node.op_type == "Cast":
            (to,) = (attribute for attribute in node.attribute if attribute.name == "to")
            to.i = HALF if to.i == SINGLE else to.i
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in self.floats:
                continue
            self.forms[name] = {kind: name}
            if name in outputs and kind == HALF:
                node.output[index] = self.forms[name][HALF] = node.name
                self._cast(node, node.name, SINGLE, name)

    def _read(self, node: NodeProto, name: str, kind: int) -> str:
        """The name under which `node` reads a tensor in that type."""
        if name not in self.floats:
            return name
        forms = self.forms.setdefault(name, {})
        if not forms:  # a constant takes the type of its first reader
            values = numpy_helper.to_array(self.constants[name])
            if kind == HALF:
                self.constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
            forms[kind] = name
        elif kind not in forms:
            (made,) = forms.values()
            forms[kind] = self._cast(self.makers[name] if kind == HALF and name in self.makers else node, made, kind)
        return forms[kind]

    def _cast(self, beside: NodeProto, tensor: str, to: int, output: str | None = None) -> str:
        """Add a cast of `tensor`, named after the module of the node `beside` it; the name of its output."""
        module, number = beside.name.rpartition("/")[0], 1
        while (name := f"{module}/Cast" + (f"_{number}" if number > 1 else "")) in self.names:
            number += 1
        self.names.add(name)
        self.nodes.append(helper.make_node("Cast", [tensor], [output or name], name, to=to))
        return output or name
