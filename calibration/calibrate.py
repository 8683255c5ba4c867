"""Ranges of activations and 8-bit weights of a network, measured on clips, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ..core.choices import Method, Precision
from ..core.errors import QuantizationError
from ..core.files import hash_file
from ..core.reporter import Progress, no_progress
from ..core.runner import Runner
from ..core.types import Array, Clip
from .formats import FORMATS, EightBits
from .gptq import RoundedWeight, round_weight
from .linear_layers import LinearLayer
from .observe import ClipRecord, observe
from .scales import SMALLEST_SCALE, choose_scale, round_scale
from .stored import AGAIN, FORMAT, name_files, read_document


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """The smallest and largest value of a tensor on the clips, and the scale that was chosen for it."""

    low: float
    high: float
    scale: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """The format to calibrate for, and how ranges are chosen."""

    precision: Precision
    method: Method


@dataclass(frozen=True, slots=True)
class Calibration:
    """Ranges by tensor and weights by layer, measured on clips for the FP32 graph of hash `graph`.

    Scales and weights are for the format `precision`.
    """

    graph: str
    method: Method
    clips: tuple[ClipRecord, ...]
    ranges: Mapping[str, ActivationRange]
    weights: Mapping[str, RoundedWeight]
    precision: Precision = Precision.INT8

    @property
    def eight(self) -> EightBits:
        """The format of the weights, and of what the layers read."""
        return FORMATS[self.precision]


def calibrate(
    runner: Runner,
    graph: str,
    layers: Sequence[LinearLayer],
    clips: Iterable[Clip],
    recipe: Recipe,
    progress: Progress = no_progress,
) -> Calibration:
    """Measure `layers` on clips: `runner` runs the observable form of the FP32 graph with the hash `graph`.

    One pass, one clip at a time, in memory that does not depend on how many there are.
    """
    eight = FORMATS[recipe.precision]
    observers, records = observe(runner, layers, clips, progress)
    ranges = {
        tensor: ActivationRange(
            observer.low, observer.high, choose_scale(tensor, observer, recipe.method, eight.largest)
        )
        for tensor, observer in observers.items()
    }
    weights = {}
    for done, layer in enumerate(layers):
        progress("rounding weights", done, len(layers))
        weights[layer.name] = round_weight(layer.weight, observers[layer.reads].moments, layer.scales, eight)
    progress("rounding weights", len(layers), len(layers))
    return Calibration(graph, recipe.method, records, ranges, weights, recipe.precision)


def draft_calibration(layers: Sequence[LinearLayer], precision: Precision = Precision.INT8) -> Calibration:
    """Ranges and weights that were measured on nothing: for the shape of a quantized graph, not for its values."""
    eight = FORMATS[precision]
    ranges = {layer.reads: ActivationRange(-1.0, 1.0, round_scale(1.0 / eight.largest)) for layer in layers}
    weights = {}
    for layer in layers:
        grouped = layer.weight.reshape(layer.scales, -1)
        scales = np.maximum(np.abs(grouped).max(axis=1) / eight.largest, SMALLEST_SCALE)
        values = np.rint(grouped / scales[:, None]).reshape(layer.weight.shape)
        weights[layer.name] = RoundedWeight(values.astype(eight.dtype), scales)
    return Calibration("", Method.MAX, (), ranges, weights, precision)


def write_calibration(calibration: Calibration, path: Path, weights_path: Path) -> None:
    """Write ranges as JSON to `path` and weights to `weights_path` (staged names of those of `name_files`)."""
    tensors: dict[str, Array] = {}
    for name, rounded in calibration.weights.items():
        values = np.ascontiguousarray(rounded.values)
        tensors[f"{name}.weight"] = values if values.dtype == np.int8 else values.view(np.uint8)
        tensors[f"{name}.scale"] = rounded.scales
    save_file(tensors, weights_path)
    largest = calibration.eight.largest
    document = {
        "format": FORMAT,
        "graph": calibration.graph,
        "precision": calibration.precision.value,
        "method": calibration.method.value,
        "weights": {"path": name_files(calibration.precision)[1], "sha256": hash_file(weights_path)},
        "clips": [asdict(record) for record in calibration.clips],
        "ranges": {tensor: {**asdict(one), "limit": one.scale * largest} for tensor, one in calibration.ranges.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_calibration(folder: Path, precision: Precision = Precision.INT8) -> Calibration:
    """The calibration in `folder`. Raises QuantizationError when it is missing, malformed or incomplete."""
    document, tensors = read_document(folder, precision)
    dtype = FORMATS[precision].dtype
    return Calibration(
        graph=document.graph,
        method=document.method,
        clips=tuple(ClipRecord(entry.name, entry.view, entry.frame_indices, entry.sha256) for entry in document.clips),
        ranges={
            tensor: ActivationRange(entry.low, entry.high, entry.scale) for tensor, entry in document.ranges.items()
        },
        weights={
            name.removesuffix(".weight"): RoundedWeight(
                values.view(dtype), tensors[f"{name.removesuffix('.weight')}.scale"]
            )
            for name, values in tensors.items()
            if name.endswith(".weight")
        },
        precision=precision,
    )


def require_fit(calibration: Calibration, layers: Sequence[LinearLayer]) -> None:
    """Raise QuantizationError unless the calibration holds each layer's weight, in its shape, and its input's range."""
    for layer in layers:
        held = calibration.weights.get(layer.name)
        if held is None or held.values.shape != layer.weight.shape:
            found = f"a weight {held.values.shape}" if held is not None else "no weight"
            raise QuantizationError(
                f"the calibration holds {found} for {layer.name}, whose own is {layer.weight.shape}", fix=AGAIN
            )
        if layer.reads not in calibration.ranges:
            raise QuantizationError(
                f"the calibration has no range for {layer.reads}, which {layer.name} reads", fix=AGAIN
            )
