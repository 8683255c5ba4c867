"""A graph's batch: fixed, or any of a range, which the file's metadata keeps since ONNX has no place for bounds."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from ..core.errors import GraphError
from ..core.types import TensorSpec
from .load import load_graph

BATCH_KEY = "dualexport.batch"  # in the metadata: "1-8"
SYMBOL = "batch"
MOST_BATCH = 1024
_RANGE = re.compile(r"([1-9]\d{0,3})-([1-9]\d{0,3})")


def parse_batches(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """The smallest and the largest batch that a file's metadata allows; None for a file of one fixed batch."""
    text = metadata.get(BATCH_KEY)
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    least, most = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= least < most <= MOST_BATCH:
        raise GraphError(f"{text!r} is no range of batches", fix="export it again with `dualexport onnx --batch 1-8`")
    return least, most


def read_batches(model: ModelProto) -> tuple[int, int] | None:
    """The smallest and the largest batch of `model`; None where its batch is fixed."""
    return parse_batches({entry.key: entry.value for entry in model.metadata_props})


def spec_of_range(name: str, dtype: str, rest: tuple[int, ...], batches: tuple[int, int]) -> TensorSpec:
    """The specification of a tensor (batch, *rest) whose batch is any of a range."""
    return TensorSpec(name, dtype, (batches[1], *rest), batches[0])


def free_batch(model: ModelProto, traced: int, batches: tuple[int, int]) -> None:
    """Let `model`, which was traced with a batch of `traced`, take any batch of a range.

    `traced` must be a prime that divides no other extent in the network: an extent that it divides is then one that
    the batch is in. Raises GraphError where two extents of one shape have the batch in them, and for a constant whose
    size depends on it.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Expand") and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            hits = [index for index, extent in enumerate(shape) if extent > 0 and extent % traced == 0]
            if not hits:
                continue
            if len(hits) > 1 or (node.op_type == "Reshape" and -1 in shape):
                raise GraphError(
                    f"{node.name}: the batch stands in more than one extent of {tuple(int(one) for one in shape)}",
                    fix="export the folded graph, or one batch at a time",
                )
            shape[hits[0]] = -1 if node.op_type == "Reshape" else 1  # to expand by 1 keeps an extent as it is
            name = f"{node.name}.shape"
            model.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
    _drop_unread(model.graph)
    if sized := next((one for one in model.graph.initializer if any(n and n % traced == 0 for n in one.dims)), None):
        raise GraphError(
            f"{sized.name} holds {tuple(sized.dims)} numbers, as many as the batch needs",
            fix="export it with one batch, such as --batch 4",
        )
    _set_batch(model.graph, SYMBOL)
    onnx.helper.set_model_props(model, {BATCH_KEY: f"{batches[0]}-{batches[1]}"})


def fix_batch(model: ModelProto, batch: int | None = None) -> None:
    """Give `model` one batch, the largest of its range by default; a model of a fixed batch stays as it is.

    Raises GraphError for a batch that is not in the range.
    """
    batches = read_batches(model)
    if batches is None:
        return
    batch = batches[1] if batch is None else batch
    if not batches[0] <= batch <= batches[1]:
        raise GraphError(
            f"the file takes batches of {batches[0]} to {batches[1]}, not {batch}", fix="give one of these"
        )
    _set_batch(model.graph, batch)
    kept = [entry for entry in model.metadata_props if entry.key != BATCH_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


@contextmanager
def fixed_file(path: Path, batch: int | None = None) -> Iterator[tuple[Path, ModelProto]]:
    """The file at `path` if its batch is fixed, else a temporary one of the same name with one batch of its range.

    The model in it comes along, so that nobody loads it again.
    """
    model = load_graph(path)
    if read_batches(model) is None:
        yield path, model
        return
    fix_batch(model, batch)
    with tempfile.TemporaryDirectory() as folder:
        fixed = Path(folder) / path.name
        onnx.save(model, fixed)
        yield fixed, model


def _set_batch(graph: GraphProto, batch: int | str) -> None:
    """Put `batch` in the first extent of inputs and outputs, and forget the shapes in between."""
    weights = {tensor.name for tensor in graph.initializer}
    for entry in (*graph.input, *graph.output):
        if entry.name not in weights:
            extent = entry.type.tensor_type.shape.dim[0]
            extent.Clear()
            if isinstance(batch, str):
                extent.dim_param = batch
            else:
                extent.dim_value = batch
    del graph.value_info[:]


def _drop_unread(graph: GraphProto) -> None:
    read = {name for node in graph.node for name in node.input} | {entry.name for entry in graph.output}
    kept: list[TensorProto] = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
