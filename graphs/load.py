"""The only loader of ONNX files: bounded, with nothing from outside the file's folder, and sound in its structure.

Who gets a model from here may rely on it: every node has an operator and an output, every input a type and a shape,
every constant as many values as its dimensions say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from ..core.errors import GraphError, GraphNotFoundError
from ..core.reading import FileKind, format_bytes

GRAPH = FileKind(
    "a readable ONNX file",
    GraphError,
    "give a file that `dualexport onnx` wrote, or export it again",
    max_bytes=(2 << 30) - 1,  # what protobuf holds
    missing=GraphNotFoundError,
    missing_fix="give the path of an ONNX file",
)
MAX_EXTERNAL_BYTES = 16 << 30
STANDARD_DOMAINS = ("", "ai.onnx")
FAILURES = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    DecodeError,
    EncodeError,
    RuntimeError,  # what the C++ side throws beside its own errors
    ValueError,
    TypeError,
    IndexError,
)
SINGLE_VALUES = {"TopK": (1,), "Dropout": (1, 2)}  # inputs of one value; of none, TensorRT's parser crashes
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_TENSORS = (AttributeProto.TENSOR, AttributeProto.TENSORS)
_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}


def load_graph(path: Path) -> ModelProto:
    """The model in the ONNX file at `path`, with its weights. Raises GraphError for a file that is none, or unsound."""
    content = GRAPH.read_bytes(path)
    try:
        model: ModelProto = ModelProto.FromString(content)
        del content
        _load_external_data(model, path)
        _check(model)
    except FAILURES as error:
        raise GRAPH.refuse(path, _first_line(error)) from error
    if problem := next(_find_problems(model), None):
        raise GRAPH.refuse(path, problem)
    return model


def infer_shapes(model: ModelProto, *, data_prop: bool = False) -> GraphProto:
    """The model's graph with the shapes that follow from those of its inputs. Raises GraphError where none can."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=data_prop).graph
    except FAILURES as error:
        raise GraphError(
            f"the graph's shapes contradict each other: {_first_line(error)}", fix="export it again"
        ) from error


def list_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of the graph and of the graphs inside them, in order."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
                yield from list_nodes(inner)


def _check(model: ModelProto) -> None:
    """ONNX's own check, which wants a shape of each output, though every reader goes without."""
    shapeless = [entry.type.tensor_type for entry in model.graph.output if not entry.type.tensor_type.HasField("shape")]
    for tensor in shapeless:
        if tensor.elem_type:
            tensor.shape.SetInParent()
    onnx.checker.check_model(model)
    for tensor in shapeless:
        tensor.ClearField("shape")


def _load_external_data(model: ModelProto, path: Path) -> None:
    """Read weights that lie in files of their own: these must be inside the folder of the ONNX file, and fit."""
    total = 0
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            total += _check_external(tensor, path)
    if total > MAX_EXTERNAL_BYTES:
        raise ValueError(f"its weights lie in files of {format_bytes(total)}")
    if total:
        load_external_data_for_model(model, str(path.parent))


def _check_external(tensor: TensorProto, path: Path) -> int:
    """The bytes that the tensor takes from its file; raises ValueError for a place that must not be read."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = Path(entries.get("location", ""))
    if location.is_absolute() or ".." in location.parts or not location.name:
        raise ValueError(f"the weights {tensor.name} lie outside its folder")
    file = GRAPH.require(path.parent / location).resolve()
    if not file.is_relative_to(path.parent.resolve()):
        raise ValueError(f"the weights {tensor.name} lie outside its folder")
    offset, length = int(entries.get("offset", 0)), int(entries.get("length", file.stat().st_size))
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise ValueError(
            f"the weights {tensor.name} lie at {offset} to {offset + length}, beyond the end of {location}"
        )
    return length


def _find_problems(model: ModelProto) -> Iterator[str]:
    """Find what makes the model unsound although ONNX's own checker takes it."""
    graph = model.graph
    if not all(isinstance(name, str) for name in _list_names(model)):  # protobuf gives bytes for what is no UTF-8
        yield "a name in it is no UTF-8 text"
    if not graph.node:
        yield "it holds no node"
    if not graph.output or not graph.input:
        yield f"it has no {'input' if graph.output else 'output'}"
    for entry in (*graph.input, *graph.output):
        tensor = entry.type.tensor_type
        if not entry.type.HasField("tensor_type") or not _is_known(tensor.elem_type):
            yield f"{entry.name} is no tensor of a known type"
        if any(dim.HasField("dim_value") and dim.dim_value < 0 for dim in tensor.shape.dim):
            yield f"{entry.name} has a negative extent"
    for node in list_nodes(graph):
        if not any(node.output):
            yield f"a node of operator {node.op_type or '(none)'} has no output"
        for attribute in node.attribute:
            tensors = (attribute.t, *attribute.tensors) if attribute.type in _TENSORS else ()
            yield from (problem for tensor in tensors if (problem := _check_tensor(tensor, node.op_type)))
    yield from (problem for tensor in graph.initializer if (problem := _check_tensor(tensor, tensor.name)))
    yield from _find_empty(model)


def _find_empty(model: ModelProto) -> Iterator[str]:
    """Find inputs of one value that hold another number of them."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    for node in list_nodes(model.graph):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.type == AttributeProto.TENSOR:
                sizes[node.output[0]] = math.prod(attribute.t.dims)
        for place in SINGLE_VALUES.get(node.op_type, ()):
            if place < len(node.input) and sizes.get(node.input[place], 1) != 1:
                yield f"input {place + 1} of {node.op_type} holds {sizes[node.input[place]]} values, not one"


def _list_names(model: ModelProto) -> Iterator[str]:
    """Every text of the model that somebody reads."""
    graph = model.graph
    for node in list_nodes(graph):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for entry in (*graph.input, *graph.output, *graph.value_info):
        yield entry.name
        yield from (extent.dim_param for extent in entry.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    for metadata in model.metadata_props:
        yield from (metadata.key, metadata.value)
    yield from (entry.domain for entry in model.opset_import)


def _is_known(element_type: int) -> bool:
    return element_type != TensorProto.UNDEFINED and element_type in TensorProto.DataType.values()


def _check_tensor(tensor: TensorProto, name: str) -> str | None:
    """A problem where the tensor's type is not known, or it holds another number of bytes than it says."""
    if not _is_known(tensor.data_type):
        return f"{name} is of the unknown type {tensor.data_type}"
    if any(extent < 0 for extent in tensor.dims):
        return f"{name} has a negative extent"
    if tensor.data_type == TensorProto.STRING:
        return None
    bits = _BITS.get(tensor.data_type, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8)
    wanted = -(-math.prod(tensor.dims) * bits // 8)
    if tensor.HasField("raw_data"):
        return None if len(tensor.raw_data) == wanted else f"{name} holds {len(tensor.raw_data)} bytes, not {wanted}"
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    values = len(getattr(tensor, field))
    most = math.prod(tensor.dims) * (2 if tensor.data_type in _COMPLEX else 1)
    return None if (values == most or (bits < 8 and 0 < values <= most)) else f"{name} holds {values} of {most} values"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
