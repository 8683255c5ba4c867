"""Changes to an exported graph that need no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from ..core.errors import GraphError
from .load import list_nodes, load_graph

PROBABILITIES = "probabilities"


def write_probabilities(source: Path, target: Path) -> None:
    """Write the graph at `source` to `target` with one output: the softmax of its first one, in float32.

    What only other outputs needed is left out. Raises GraphError where the first output is not (batch, classes).
    """
    model = load_graph(source)
    graph = model.graph
    logits = graph.output[0]
    tensor = logits.type.tensor_type
    if len(tensor.shape.dim) != 2:
        raise GraphError(
            f"{source.name}: {logits.name} is not (batch, classes)", fix="give a file that `dualexport onnx` wrote"
        )
    taken = {name for node in list_nodes(graph) for name in (*node.input, *node.output)}
    if PROBABILITIES in taken:
        raise GraphError(f"{source.name} has a tensor {PROBABILITIES} already", fix="give the file that gives logits")
    scores = logits.name
    if tensor.elem_type != TensorProto.FLOAT:
        scores = f"{logits.name}_float32"
        graph.node.append(helper.make_node("Cast", [logits.name], [scores], scores, to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Softmax", [scores], [PROBABILITIES], PROBABILITIES, axis=-1))
    shape = [dim.dim_value or dim.dim_param for dim in tensor.shape.dim]
    output = helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape)
    _replace(graph.output, [output])
    _drop_unused(graph)
    target.write_bytes(model.SerializeToString())


def _drop_unused(graph: GraphProto) -> None:
    """Leave out nodes and constants that no output of the graph needs."""
    needed = {output.name for output in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(name for inner in _list_inner(node) for name in inner.input)
            kept.append(node)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def _list_inner(node: NodeProto) -> Iterator[NodeProto]:
    """The nodes of the graphs inside a node, which take tensors from outside."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield from list_nodes(attribute.g)


def _replace(field: Any, entries: Iterable[Any]) -> None:
    """The entries of a repeated field; these may be some of those that are in it."""
    copies = list(entries)
    del field[:]
    field.extend(copies)
