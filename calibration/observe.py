"""The graph with what calibration looks at as further outputs, and what those tell, clip by clip."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import length_hint

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ..core.errors import ClipError, QuantizationError
from ..core.reporter import Progress
from ..core.runner import Runner
from ..core.types import Array, Clip
from ..graphs.batch import fix_batch, read_batches
from .histogram import InputObserver
from .linear_layers import LinearLayer

SAMPLED_VALUES = 1 << 16  # of each tensor and clip; the extremes are those of all values
MOMENT_ROWS = 64  # of each tensor and clip
EXTREME_ROWS = 64  # ONNX Runtime finds extremes over short runs of rows ten times faster than over all rows


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """A clip that ranges were measured on: `sha256` is that of its pixels (or values) as the network got them."""

    name: str
    view: int
    frame_indices: tuple[int, ...]
    sha256: str


def record_clip(clip: Clip) -> ClipRecord:
    """The identity of `clip`."""
    digest = hashlib.sha256(np.ascontiguousarray(clip.data).tobytes()).hexdigest()
    return ClipRecord(clip.name, clip.view, tuple(int(index) for index in clip.frame_indices), digest)


def make_observable(model: ModelProto, layers: Sequence[LinearLayer]) -> ModelProto:
    """A copy of `model` that puts out, for the tensor number i which `layers` read, `rows/i`, `low/i` and `high/i`."""
    observable = ModelProto()
    observable.CopyFrom(model)
    batches = read_batches(model)
    fix_batch(observable, batches and batches[0])
    graph = observable.graph
    shapes = _infer_shapes(observable)
    for name, value in (("observe/first", [0]), ("observe/runs", [1]), ("observe/end", [1 << 40])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for index, tensor in enumerate(list_inputs(layers)):
        rows, channels = shapes[tensor]
        step = _choose_step(rows, channels)
        run = math.gcd(rows, EXTREME_ROWS)
        runs, size = f"observe/{index}/runs", f"observe/{index}/size"
        graph.initializer.append(numpy_helper.from_array(np.array([step], np.int64), f"observe/{index}/step"))
        graph.initializer.append(numpy_helper.from_array(np.array([-1, run, channels], np.int64), size))
        slice_ = [tensor, "observe/first", "observe/end", "observe/first", f"observe/{index}/step"]
        graph.node.extend(
            (
                helper.make_node("Slice", slice_, [f"rows/{index}"]),
                helper.make_node("Reshape", [tensor, size], [runs]),
                helper.make_node("ReduceMin", [runs, "observe/runs"], [f"low/{index}"], keepdims=0),
                helper.make_node("ReduceMax", [runs, "observe/runs"], [f"high/{index}"], keepdims=0),
            )
        )
        extremes = (rows // run, channels)
        for name, shape in (("rows", (-(-rows // step), channels)), ("low", extremes), ("high", extremes)):
            graph.output.append(helper.make_tensor_value_info(f"{name}/{index}", TensorProto.FLOAT, shape))
    return observable


def list_inputs(layers: Sequence[LinearLayer]) -> tuple[str, ...]:
    """The tensors that `layers` read, each once, in the graph's order."""
    return tuple(dict.fromkeys(layer.reads for layer in layers))


def observe(
    runner: Runner, layers: Sequence[LinearLayer], clips: Iterable[Clip], progress: Progress
) -> tuple[dict[str, InputObserver], tuple[ClipRecord, ...]]:
    """Run the observable graph on every clip: an observer for each tensor that `layers` read, and what was seen.

    Raises ClipError for no clip, or one of another shape; QuantizationError where values are not finite, or where no
    clip shows anything.
    """
    widths = {layer.reads: layer.weight.shape[1] for layer in layers}
    observers = {tensor: InputObserver(widths[tensor]) for tensor in list_inputs(layers)}
    records: list[ClipRecord] = []
    total, blank = length_hint(clips) or None, True
    for clip in clips:
        progress("measuring ranges", len(records), total)
        values = runner.infer({runner.inputs[0].name: fill_batch(clip, runner)})
        _add(observers, values, clip)
        records.append(record_clip(clip))
        blank = blank and bool(clip.data.min() == clip.data.max())
    progress("measuring ranges", len(records), total)
    if not records:
        raise ClipError("no clip to calibrate on", fix="give a source with at least one readable video")
    if blank:
        raise QuantizationError(
            f"all {len(records)} clips show one flat colour: what flows through "
            f"{next(iter(observers))} and the rest has no range worth the name",
            fix="calibrate on clips like those that the network will see",
        )
    return observers, tuple(records)


def _add(observers: Mapping[str, InputObserver], values: Mapping[str, Array], clip: Clip) -> None:
    for index, (tensor, observer) in enumerate(observers.items()):
        low, high = float(values[f"low/{index}"].min()), float(values[f"high/{index}"].max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError(
                f"{tensor} is not finite on {clip.name} (view {clip.view}): {low:g} to {high:g}",
                fix="check the checkpoint with `dualexport verify`; a network with NaN cannot be quantized",
            )
        observer.add(values[f"rows/{index}"], low, high, MOMENT_ROWS)


def fill_batch(clip: Clip, runner: Runner) -> Array:
    """The clip as the runner's input; where that takes several clips at least, the same one in each place."""
    spec = runner.inputs[0]
    values = clip.network_input(spec.dtype)
    if values.shape != spec.shape[1:]:
        raise ClipError(
            f"{clip.name}: the clip is {values.shape}, the network takes {spec.shape[1:]}",
            fix="give videos, or clips of the network's size",
        )
    return np.ascontiguousarray(np.broadcast_to(values, (spec.batches[0], *values.shape)))


def _choose_step(rows: int, channels: int) -> int:
    """Every how many rows are looked at; without a common divisor with `rows`, so that no position is preferred."""
    step = max(1, rows * channels // SAMPLED_VALUES)
    while math.gcd(step, rows) > 1:
        step += 1
    return step


def _infer_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}
