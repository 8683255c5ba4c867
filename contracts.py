"""The types that flow between the parts of dualexport, and the errors it raises.

Imports nothing but the standard library and NumPy, so that every part, on every device, can import it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class ModelSize(str, Enum):
    """The network's sizes: nano (ours, for demos and tests) and the three published ones."""

    N = "n"
    T = "t"
    S = "s"
    B = "b"


class Precision(str, Enum):
    """What the matrix multiplications of an artifact compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Graph(str, Enum):
    """How the network is written down: as traced, or folded into fewer layers."""

    PLAIN = "plain"
    FOLDED = "folded"


class InputType(str, Enum):
    """What an artifact takes: normalized clips, or raw RGB frames as a decoder delivers them."""

    FLOAT32 = "float32"
    UINT8 = "uint8"


class DualExportError(Exception):
    """What is wrong (the message: got and expected) and how to `fix` it, each one line."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), fix=self.fix), self.args  # it may come from another process


class CheckpointError(DualExportError):
    """A checkpoint that cannot be read, or is not the network it is said to be."""


class ClipError(DualExportError):
    """A video or clip source that cannot be read as asked."""


class ExportError(DualExportError):
    """A network that could not be written as ONNX."""


class LabelError(DualExportError):
    """A file of class names that cannot be used with the network."""


class LimitError(DualExportError):
    """A file of limits that cannot be read as such."""


class ManifestError(DualExportError):
    """A manifest that is missing, malformed, too new, or no longer fits its files."""


class MissingDependencyError(DualExportError):
    """A library that this command needs is not installed."""


class OutputError(DualExportError):
    """A file or folder that cannot be written."""


class ParityError(DualExportError):
    """An artifact that does not compute what its reference computes."""


class QuantizationError(DualExportError):
    """A network or clips that cannot be quantized as asked, or a calibration that does not belong to the network."""


class RunnerError(DualExportError):
    """An artifact that a runtime cannot load or run."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of an artifact: its name, NumPy dtype name and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that computes the network, and what it was made from.

    `path` is absolute in memory and relative to the manifest on disk. `parent` is the SHA-256 of the file this one
    was made from, None for seeded random weights.
    """

    format: str
    precision: Precision
    graph: Graph
    path: Path
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parent: str | None
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How video frames become a clip: sampling, size in pixels, colour statistics on the 0..255 scale (RGB).

    The defaults are the published test pipeline's.
    """

    frames: int = 32
    stride: int = 2
    size: int = 224
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def normalize(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Uint8 RGB (frames, size, size, 3) -> float32 (3, frames, size, size)."""
        scaled = (frames - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(3, 0, 1, 2), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Clip:
    """One view of one video.

    `data` is uint8 RGB (frames, size, size, 3), or, where a source holds nothing else, float32 network input
    (3, frames, size, size). `frame_indices` are the video's frames it was made of.
    """

    name: str
    view: int
    data: Array
    preprocessing: Preprocessing
    frame_indices: tuple[int, ...] = ()
    label: str | None = None

    def network_input(self, dtype: str) -> Array:
        """The clip as an input of type `dtype`: float32 (3, frames, size, size), or the uint8 frames.

        Raises ClipError when uint8 frames are asked of a clip that was stored normalized.
        """
        if self.data.dtype == dtype:
            return self.data
        if self.data.dtype == np.uint8 and dtype == "float32":
            return self.preprocessing.normalize(self.data)
        raise ClipError(
            f"{self.name}: holds {self.data.dtype} values, the network takes {dtype}",
            fix="give videos, or a .npy of raw uint8 frames (frames, height, width, 3)",
        )


class Runner(Protocol):
    """Something that computes the network: `infer` takes and returns arrays on the host, by name."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...
    def __enter__(self) -> Runner: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TimedRunner(Runner, Protocol):
    """A runner whose work alone can be timed: `prepared` copies a batch to where it computes, and gives a function.

    That function runs the batch once, waits for it, and returns the milliseconds on the GPU where a GPU counted them.
    """

    def prepared(self, feeds: Mapping[str, Array]) -> AbstractContextManager[Callable[[], float | None]]: ...


class Progress(Protocol):
    """Where long work says what it is doing: a task, and how much of it is done when that can be counted."""

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None: ...


def no_progress(task: str, done: int = 0, total: int | None = None) -> None:
    """A Progress that says nothing."""


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def staged_path(final: Path) -> Iterator[Path]:
    """A temporary name beside `final`, renamed to it when the block ends and deleted when the block fails.

    Makes the folder where it is missing, and takes a folder it made away again when the block fails. Raises
    OutputError for what the file system refuses (permission, no space).
    """
    staged = final.with_name(f".{final.name}.{os.getpid()}.partial")
    made = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staged.touch()  # a folder that cannot be written is found out now, not after the work
        yield staged
        staged.replace(final)
    except OSError as error:
        _discard(staged, made)
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {final}: {reason}", fix="make room or permission there, or choose another place"
        ) from error
    except BaseException:
        _discard(staged, made)
        raise


def _discard(staged: Path, made: list[Path]) -> None:
    """Take back what was made; a folder in which something else lies by now stays."""
    with suppress(OSError):
        staged.unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()
