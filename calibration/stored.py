"""Calibration files as typed and bounded documents, and what a calibration has to hold to be used on a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..core.choices import Method, Precision
from ..core.errors import QuantizationError
from ..core.files import finish_commit, hash_file
from ..core.reading import FileKind
from ..core.types import Array
from .formats import FORMATS, EightBits
from .scales import LARGEST_SCALE, SMALLEST_SCALE

FORMAT = 1
FILE_NAME = "calibration.json"
WEIGHTS_NAME = "calibration.safetensors"
FP8_FILE_NAME = "calibration.fp8.json"
FP8_WEIGHTS_NAME = "calibration.fp8.safetensors"
AGAIN = "calibrate again with --clips"
CALIBRATION = FileKind("a calibration", QuantizationError, AGAIN, missing_fix="calibrate with --clips")
WEIGHTS = FileKind("the weights of a calibration", QuantizationError, AGAIN, max_bytes=4 << 30)

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Scale = Annotated[float, Meta(ge=SMALLEST_SCALE, le=LARGEST_SCALE)]
Index = Annotated[int, Meta(ge=0, le=1 << 40)]
Name = Annotated[str, Meta(max_length=4096)]


class RangeDocument(Struct):
    """The extremes of a tensor, and its scale."""

    low: float
    high: float
    scale: Scale

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g}")


class RecordDocument(Struct):
    """A clip that was measured on."""

    name: Name
    view: Index
    frame_indices: tuple[Index, ...]
    sha256: Sha256


class WeightsDocument(Struct):
    """The file of the INT8 weights."""

    sha256: Sha256


class CalibrationDocument(Struct):
    """calibration.json."""

    graph: Sha256
    method: Method
    weights: WeightsDocument
    clips: tuple[RecordDocument, ...]
    ranges: dict[Name, RangeDocument]
    precision: Precision = Precision.INT8


class FormatDocument(Struct):
    """The number of the format alone, read before anything else."""

    format: int


def name_files(precision: Precision) -> tuple[str, str]:
    """The names of a calibration's document and of its weights."""
    return (FILE_NAME, WEIGHTS_NAME) if precision is Precision.INT8 else (FP8_FILE_NAME, FP8_WEIGHTS_NAME)


def read_document(folder: Path, precision: Precision) -> tuple[CalibrationDocument, Mapping[str, Array]]:
    """The document and the arrays of the calibration in `folder`; raises QuantizationError for what is not sound."""
    finish_commit(folder)
    path, weights_path = (folder / name for name in name_files(precision))
    content = CALIBRATION.read_bytes(path)
    found = CALIBRATION.parse_json(path, content, FormatDocument).format
    if found > FORMAT:
        raise QuantizationError(f"{path} has format {found}, this dualexport reads up to {FORMAT}", fix=AGAIN)
    document = CALIBRATION.parse_json(path, content, CalibrationDocument)
    if document.precision is not precision:
        raise QuantizationError(f"{path} is of {document.precision.value}, not of {precision.value}", fix=AGAIN)
    if hash_file(WEIGHTS.require(weights_path)) != document.weights.sha256:
        raise QuantizationError(f"{weights_path} is not the file that {path.name} was written with", fix=AGAIN)
    try:
        tensors = load_file(weights_path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WEIGHTS.refuse(weights_path, str(error)) from error
    if problem := next(_find_problems(tensors, FORMATS[precision]), None):
        raise WEIGHTS.refuse(weights_path, problem)
    return document, tensors


def _find_problems(tensors: Mapping[str, Array], eight: EightBits) -> Iterator[str]:
    stored = np.dtype(np.int8 if eight.precision is Precision.INT8 else np.uint8)  # a file of tensors has no FP8
    names = {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}
    for name in sorted(names):
        weight, scale = tensors[f"{name}.weight"], tensors.get(f"{name}.scale")
        is_sound = weight.dtype == stored and weight.ndim == 2
        if not is_sound or not bool((np.abs(weight.view(eight.dtype).astype(np.float32)) <= eight.largest).all()):
            yield f"{name} is {weight.dtype} {weight.shape}, not {stored} (outputs, inputs) within {eight.largest:g}"
        if scale is None or scale.dtype != np.float32 or scale.ndim != 1 or not _divides(len(scale), len(weight)):
            yield f"{name} has no float32 scale for each output, or for each equal part of them"
        elif not bool(((scale >= SMALLEST_SCALE) & (scale <= LARGEST_SCALE)).all()):
            yield f"{name} has scales outside {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}"


def _divides(scales: int, outputs: int) -> bool:
    return scales > 0 and outputs % scales == 0
