"""The journal: all latencies and logits that a search came by, kept in one file for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import numpy as np

from ...core.logit_store import LogitStore
from ...core.types import Array

FILE_NAME = "journal.logits"
ABOUT = {"tune": 1}


class Journal:
    """Arrays by key, each on the disk as soon as it is known; written by one process at a time. Raises OutputError."""

    def __init__(self, folder: Path) -> None:
        self._store = LogitStore(folder / FILE_NAME, ABOUT)

    def find(self, key: str) -> Array | None:
        """Return what is known by this key, as one row."""
        return self._store.find(_hash(key))

    def add(self, rows: Mapping[str, Array]) -> None:
        """Keep arrays of float32 by their keys."""
        self._store.add({_hash(key): np.ravel(row) for key, row in rows.items()})

    def find_number(self, key: str) -> float | None:
        """Return a number that is known by this key."""
        row = self.find(key)
        return None if row is None else float(row[0])

    def add_number(self, key: str, value: float) -> None:
        """Keep a number by its key."""
        self.add({key: np.array([value], np.float32)})

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()
