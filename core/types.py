"""The types that flow between the parts of dualexport, and the errors it raises.

Imports nothing but the standard library and NumPy, so that every part, on every device, can import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choices import Graph, Precision
from .errors import ClipError, OptionError

Array = NDArray[Any]
LOGITS = "logits"  # the name of a network's first output


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of an artifact: its name, NumPy dtype name and shape, whose first extent is the batch.

    Where any batch of a range is taken, `least_batch` is the smallest and `shape[0]` the largest.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    least_batch: int | None = None

    @property
    def batches(self) -> range:
        """The batches that are taken."""
        return range(self.shape[0] if self.least_batch is None else self.least_batch, self.shape[0] + 1)

    def fits(self, values: Array) -> bool:
        """True for values of this type and shape."""
        return values.dtype == self.dtype and values.shape[1:] == self.shape[1:] and len(values) in self.batches


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
    """Rules by which video frames become a clip: sampling, size in pixels, colour statistics on the 0..255 scale (RGB).

    The defaults are the published test pipeline's.
    """

    frames: int = 32
    stride: int = 2
    size: int = 224
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def find_frames(self, fewer: Preprocessing) -> slice:
        """The frames of a clip that one with `fewer` frames is made of; raises OptionError where they are no part."""
        step, remainder = divmod(fewer.stride, self.stride)
        if remainder or not step or (fewer.frames - 1) * step >= self.frames:
            fitting = self.frames // fewer.frames * self.stride
            raise OptionError(
                f"{fewer.frames} frames of stride {fewer.stride} are not among the {self.frames} of stride "
                f"{self.stride} that the whole network sees",
                fix=f"choose --stride {fitting}" if fitting else f"choose fewer than {self.frames} --frames",
            )
        start = max(0, self.frames - fewer.frames * step) // 2
        return slice(start, start + step * fewer.frames, step)

    def normalize(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Uint8 RGB (frames, size, size, 3) -> float32 (3, frames, size, size)."""
        scaled = (frames - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(3, 0, 1, 2), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Clip:
    """One view of one video.

    `data` is uint8 RGB (frames, size, size, 3), or, where a source holds nothing else, float32 network input
    (3, frames, size, size). `frame_indices` are the video's frames it was made of. `shown` are the same frames as
    another decoder gives them, where artifacts are to be compared on those; the reference gets `data`.
    """

    name: str
    view: int
    data: Array
    preprocessing: Preprocessing
    frame_indices: tuple[int, ...] = ()
    label: str | None = None
    shown: Array | None = None

    def shown_at(self, frames: slice) -> Clip:
        """The clip as artifacts of fewer frames get it: `shown` with these of its frames."""
        shown = self.data[frames] if self.data.dtype == np.uint8 else self.data[:, frames]
        return replace(self, shown=np.ascontiguousarray(shown))

    @property
    def as_shown(self) -> Clip:
        """The clip as artifacts get it."""
        return self if self.shown is None else replace(self, data=self.shown, shown=None)

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


@dataclass(frozen=True, slots=True)
class Weights:
    """The origin of the network's weights: a checkpoint file, or a seed for random ones.

    `selector_seed` is that of selectors which the checkpoint did not have; `demo` says that the checkpoint is
    dualexport's own, which is found wherever that is installed: only its file's name counts.
    """

    checkpoint: Path | None = None
    sha256: str | None = None
    seed: int | None = None
    selector_seed: int | None = None
    demo: bool = False

    @property
    def are_random(self) -> bool:
        return self.checkpoint is None
