"""An ONNX file that no manifest lists, described as an artifact."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import onnx

from ..core.choices import Graph, Precision
from ..core.errors import ExportError
from ..core.files import hash_file
from ..core.types import Artifact, TensorSpec
from .batch import read_batches, spec_of_range
from .load import load_graph


def describe_onnx(path: Path) -> Artifact:
    """The ONNX file at `path`: its inputs and outputs, and the precision that its weights and Q/DQ pairs say.

    Raises GraphError for a file that is not ONNX, ExportError for one whose inputs have no fixed shape.
    """
    model = load_graph(path)
    graph, batches = model.graph, read_batches(model)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value, batches) for value in graph.input if value.name not in weights)
    outputs = tuple(_spec(value, batches) for value in graph.output)
    return Artifact("onnx", _precision(graph), Graph.PLAIN, path.absolute(), hash_file(path), inputs, outputs, None)


def _precision(graph: onnx.GraphProto) -> Precision:
    """FP8 or INT8 with Q/DQ pairs, else the type that most of the weights' elements have."""
    elements: Counter[int] = Counter()
    for tensor in graph.initializer:
        elements[tensor.data_type] += math.prod(tensor.dims)
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        return Precision.FP8 if elements[onnx.TensorProto.FLOAT8E4M3FN] else Precision.INT8
    half = elements[onnx.TensorProto.FLOAT16]
    return Precision.FP16 if half > elements[onnx.TensorProto.FLOAT] else Precision.FP32


def _spec(value: onnx.ValueInfoProto, batches: tuple[int, int] | None) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    if batches is not None and shape[:1] == (0,) and all(shape[1:]):
        return spec_of_range(value.name, dtype, shape[1:], batches)
    if not all(shape):
        raise ExportError(
            f"{value.name} has no fixed shape",
            fix="export it with `dualexport onnx`: --batch 8 for one batch, --batch 1-8 for a range",
        )
    return TensorSpec(value.name, dtype, shape)
