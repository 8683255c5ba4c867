"""Clips that were stored as NumPy arrays, one at a time; nothing in the file is trusted before it is measured."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.errors import ClipError, ClipNotFoundError
from ..core.npy import read_header, read_member, translated
from ..core.reading import FileKind, format_bytes
from ..core.types import Array

MAX_MEMBER_BYTES = 2 << 30  # of an array that has to be unpacked into memory as a whole
MAX_CLIP_BYTES = 1 << 30
ARRAYS = FileKind(
    "a file of arrays",
    ClipError,
    "save it with np.save, without pickled objects",
    max_bytes=1 << 44,
    missing=ClipNotFoundError,
)


def read_stored_clips(path: Path, name: str) -> Iterator[Array]:
    """Every clip of a .npy or .npz file: uint8 (frames, height, width, 3) or float32 (3, frames, height, width).

    Raises ClipError for a file that cannot be read, for an array that holds no clip, and for one that needs more than
    MAX_MEMBER_BYTES at once.
    """
    ARRAYS.require(path)
    with translated(path, ARRAYS):
        if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
            yield from _read_archive(path, name)
        else:
            with path.open("rb") as file:
                _require_clip(*read_header(file), name)
            yield from _split(np.load(path, mmap_mode="r", allow_pickle=False), name)


def _read_archive(path: Path, name: str) -> Iterator[Array]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                shape, dtype = read_header(file)
            _require_clip(shape, dtype, name)
            yield from _split(read_member(archive, member, MAX_MEMBER_BYTES), name)


def _require_clip(shape: tuple[int, ...], dtype: np.dtype[np.generic], name: str) -> None:
    is_frames = dtype == np.uint8 and len(shape) in (4, 5) and shape[-1] == 3
    is_input = dtype == np.float32 and len(shape) in (4, 5) and shape[-4] == 3
    if not (is_frames or is_input) or min(shape[-4:]) < 1:
        raise ClipError(
            f"{name}: holds {dtype} {shape}, which is not a clip",
            fix="store uint8 frames (frames, height, width, 3) or float32 input (3, frames, height, width)",
        )
    if (size := math.prod(shape[-4:]) * dtype.itemsize) > MAX_CLIP_BYTES:
        raise ClipError(
            f"{name}: a clip of {shape[-4:]} takes {format_bytes(size)}, at most {format_bytes(MAX_CLIP_BYTES)} is",
            fix="store clips of the network's number of frames and size",
        )


def _split(array: Array, name: str) -> Iterator[Array]:
    for clip in array if array.ndim == 5 else array[None]:
        if clip.dtype == np.float32 and not np.isfinite(clip).all():
            raise ClipError(f"{name}: holds NaN or infinity", fix="store finite values")
        yield clip
