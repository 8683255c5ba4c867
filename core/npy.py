"""Reads NumPy's files of arrays as a stranger's: the header first, in bounds, and never a pickle."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from .errors import DualExportError
from .reading import FileKind, format_bytes
from .types import Array

MAX_MEMBERS = 10_000
_FAILURES = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    OverflowError,
    RecursionError,
    RuntimeError,  # an encrypted archive, or a compression that is not known
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the array in `file`, before any of its values is read; raises ValueError for no array."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    return shape, dtype


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int) -> Array:
    """The array of a member of an .npz file; raises ValueError where it unpacks to more than `most_bytes`."""
    with archive.open(member) as file:
        shape, dtype = read_header(file)
    size = max(member.file_size, math.prod(shape) * dtype.itemsize)
    if size > most_bytes:
        raise ValueError(
            f"{member.filename} unpacks to {format_bytes(size)}, at most {format_bytes(most_bytes)} is read"
        )
    with archive.open(member) as file:
        values: Array = npy.read_array(file, allow_pickle=False)
        return values


def read_arrays(path: Path, kind: FileKind, most_bytes: int) -> dict[str, Array]:
    """All arrays of the .npz file at `path` by name, together at most `most_bytes`; raises the kind's error."""
    kind.require(path)
    with translated(path, kind), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > most_bytes:
            raise ValueError(f"it unpacks to more than {format_bytes(most_bytes)}")
        return {member.filename.removesuffix(".npy"): read_member(archive, member, most_bytes) for member in members}


@contextmanager
def translated(path: Path, kind: FileKind) -> Iterator[None]:
    """Turn what reading arrays raises into the kind's error."""
    try:
        yield
    except DualExportError:
        raise
    except _FAILURES as error:
        raise kind.refuse(path, next(iter(str(error).splitlines()), type(error).__name__)) from error
