"""The reference's logits of earlier runs: a reference for where PyTorch is not installed, on the same clips.

One line of JSON, then records of one size: SHA-256 of a clip's uint8 frames, and float32 logits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..core.errors import RunnerError
from ..core.files import staged_path
from ..core.logit_store import key_of
from ..core.runner import DeviceTime
from ..core.types import Array, Preprocessing, TensorSpec
from ..verification.portions import PortionLogits

FILE_NAME = "reference.logits"
FORMAT = 1
MAX_HEADER = 1 << 16  # bytes
_MALFORMED = (ValueError, KeyError, TypeError)
FIX = "run `dualexport verify --clips` on the same videos where PyTorch is installed, and take its {name} along"


class StoredReference:
    """Answers clips with the logits that are stored for their frames, and no other.

    Raises RunnerError for a file that is missing, is none, or is of another network than `network` describes.
    """

    def __init__(self, path: Path, network: Mapping[str, Any], preprocessing: Preprocessing) -> None:
        try:
            header, self._records = _open_records(path)
        except (OSError, *_MALFORMED) as error:
            raise RunnerError(f"{path}: no stored reference: {error}", fix=FIX.format(name=FILE_NAME)) from error
        if header["network"] != _plain(network):
            raise RunnerError(f"{path}: stored for another network", fix=FIX.format(name=FILE_NAME))
        self.name = f"stored outputs of {header['reference']}"
        shape = (1, preprocessing.frames, preprocessing.size, preprocessing.size, 3)
        self.inputs = (TensorSpec("clip", "uint8", shape),)
        self.outputs = (TensorSpec("logits", "float32", (1, int(header["classes"]))),)
        self._rows = {key.tobytes(): row for row, key in enumerate(self._records["frames"])}

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The stored logits of one clip; RunnerError without any."""
        row = self._rows.get(key_of(feeds["clip"][0]))
        if row is None:
            raise RunnerError(
                "no logits are stored for these frames (of another video, view, or version of the decoder)",
                fix=FIX.format(name=FILE_NAME),
            )
        return {"logits": np.array(self._records["logits"][row])[None]}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        """Looks the clip up; there is nothing to time."""
        self.infer(feeds)
        yield lambda: None

    def __enter__(self) -> StoredReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._records


def store_reference(path: Path, network: Mapping[str, Any], reference: str, portions: Iterable[PortionLogits]) -> int:
    """Write what `reference`, by its name, computed; what the file holds of the same network and reference stays.

    Returns how many clips the file holds then, and writes none where `portions` has only clips stored as float32: they
    have no frames. Raises OutputError.
    """
    groups = (group for portion in portions for group in portion.groups)
    rows = ((key, row) for group in groups for key, row in zip(group.frames, group.reference, strict=True) if key)
    first = next(rows, None)
    if first is None:
        return 0
    header = {"format": FORMAT, "network": network, "reference": reference, "classes": len(first[1])}
    seen: set[bytes] = set()
    with staged_path(path) as staged, staged.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for key, row in chain([first], rows, _read_former(path, header)):
            if key not in seen:
                seen.add(key)
                file.write(key + row.astype("<f4").tobytes())
    return len(seen)


def _read_former(path: Path, header: Mapping[str, Any]) -> Iterator[tuple[bytes, Array]]:
    """What an earlier run with the same header stored."""
    try:
        former, records = _open_records(path)
    except (OSError, *_MALFORMED):
        return
    if former == _plain(header):
        yield from ((record["frames"].tobytes(), record["logits"]) for record in records)


def _open_records(path: Path) -> tuple[dict[str, Any], Array]:
    """The header, and the records as they lie in the file, of which only what is asked for is read."""
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER)
    header = json.loads(line)
    if not isinstance(header, dict) or header["format"] != FORMAT:
        raise ValueError("it has another format")
    record = np.dtype([("frames", "V32"), ("logits", "<f4", (int(header["classes"]),))])
    count = (path.stat().st_size - len(line)) // record.itemsize
    return header, np.memmap(path, record, "r", offset=len(line), shape=(count,))


def _plain(header: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(header))
    return plain
