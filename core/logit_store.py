"""Logits in a file that survives what happens to the process: results of a run in order, logits by a clip's frames.

One SQLite database a file. A run's own file is written as it goes, by one process at a time; the file of a reference
is written whole and renamed, and read without a lock, so that it may come along to another machine.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import msgspec
import numpy as np

from .errors import RunnerError, StoredNotFoundError
from .files import staged_path
from .logit_database import connect_alone, connect_read_only, create, refusing
from .manifest_document import MAX_CLASSES
from .reading import FileKind
from .types import Array

REFERENCE_NAME = "reference.logits"
MAX_ABOUT = 1 << 20  # bytes
FIX = (
    "run `dualexport verify --clips` on the same videos where PyTorch is installed, and take its "
    f"{REFERENCE_NAME} along"
)


STORED = FileKind("a stored reference", RunnerError, FIX, max_bytes=16 << 30, missing=StoredNotFoundError)


class ReferenceInfo(msgspec.Struct, frozen=True):
    """The origin of stored logits: the network, the name of the runner that computed them, the number of classes."""

    network: dict[str, Any]
    reference: str
    classes: Annotated[int, msgspec.Meta(ge=0, le=MAX_CLASSES)]

    @classmethod
    def of(cls, network: Mapping[str, Any], reference: str, classes: int) -> ReferenceInfo:
        """Make it as it comes out of a file: tuples are lists."""
        return cls(msgspec.json.decode(msgspec.json.encode(network)), reference, classes)


def key_of(clip: Array) -> bytes:
    """SHA-256 of the values of a clip, by which its logits are found."""
    return sha256(np.ascontiguousarray(clip).data).digest()


def name_store(run: Mapping[str, Any], command: str = "verify") -> str:
    """A file name that only runs with the same description have: another run does not touch what this one left."""
    return f"{command}-{sha256(_describe(run).encode()).hexdigest()[:12]}.logits"


class LogitStore:
    """Results of the run that `run` describes, at `path`; what an interrupted run with the same left is kept.

    Without `path`, a temporary file that nobody else sees. Raises OutputError where the file cannot be written, or
    another process is writing it.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self.path = path
        self._about = _describe(run)
        self._connection = connect_alone(path, self._about)

    def replay(self, keys: Iterable[str]) -> Iterator[bytes]:
        """Yield the results that are there, as long as they have the keys expected in this order; drop the rest."""
        count = 0
        rows = self._connection.execute("SELECT key, crc, content FROM result ORDER BY number")
        try:
            for key, (found, crc, content) in zip(keys, rows, strict=False):
                if found != key or crc != zlib.crc32(content):
                    break
                count += 1
                yield content
        except sqlite3.DatabaseError:
            pass  # a damaged page ends what is there
        finally:
            rows.close()
        with refusing(self.path):
            self._connection.execute("DELETE FROM result WHERE number >= ?", (count,))

    def append(self, key: str, content: bytes, logits: Mapping[bytes, Array]) -> None:
        """Add one result, and logits by their frames; from then on they outlive this process."""
        with refusing(self.path), self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute(
                "INSERT INTO result SELECT coalesce(max(number) + 1, 0), ?, ?, ? FROM result",
                (key, zlib.crc32(content), content),
            )
            _insert(self._connection, logits)

    def add(self, logits: Mapping[bytes, Array]) -> None:
        """Add logits by their frames."""
        with refusing(self.path):
            _insert(self._connection, logits)

    def find(self, frames: bytes) -> Array | None:
        """Return the logits of a clip by the key of its frames."""
        found = self._connection.execute("SELECT row FROM logits WHERE frames = ?", (frames,)).fetchone()
        return None if found is None else np.frombuffer(found[0], "<f4")

    def publish(self, path: Path, about: ReferenceInfo) -> None:
        """Write the logits by frames to `path`; what that file holds of the same network and reference stays.

        Writes nothing where there are none. Raises OutputError.
        """
        rows = self._connection.execute("SELECT frames, row FROM logits")
        first = rows.fetchone()
        if first is None:
            return
        text = msgspec.json.encode(about).decode()
        with staged_path(path) as staged, refusing(path), closing(create(staged, text)) as target, target:
            target.execute("BEGIN")
            target.execute("INSERT INTO logits VALUES (?, ?)", first)
            target.executemany("INSERT INTO logits VALUES (?, ?)", rows)
            target.executemany("INSERT OR IGNORE INTO logits VALUES (?, ?)", _read_former(path, about))

    @property
    def is_empty(self) -> bool:
        """True where it holds neither a result nor logits."""
        found = self._connection.execute("SELECT 1 FROM result UNION ALL SELECT 1 FROM logits LIMIT 1")
        return found.fetchone() is None

    def close(self) -> None:
        """Close the file; one that holds nothing is deleted."""
        if self.is_empty:
            self.discard()
        self._connection.close()

    def discard(self) -> None:
        """Close and delete the file: the run is complete, and reported."""
        self._connection.close()
        if self.path is not None:
            for name in (self.path.name, f"{self.path.name}-journal"):
                self.path.with_name(name).unlink(missing_ok=True)

    def __enter__(self) -> LogitStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StoredLogits:
    """The file of a reference, open for reading; it may come from a stranger, and nothing in it is executed.

    Raises RunnerError for a file that is missing, or is none.
    """

    def __init__(self, path: Path) -> None:
        STORED.require(path)
        try:
            self._connection = connect_read_only(path)
            (text,) = self._connection.execute("SELECT substr(text, 1, ?) FROM about", (MAX_ABOUT,)).fetchone()
            self.about = msgspec.json.decode(text, type=ReferenceInfo)
        except (OSError, sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            raise STORED.refuse(path, str(error)) from error
        self._path = path

    def find(self, frames: bytes) -> Array | None:
        """Return the logits of a clip by the key of its frames. Raises RunnerError for a damaged file."""
        wanted = 4 * self.about.classes
        try:
            found = self._connection.execute(
                "SELECT row FROM logits WHERE frames = ? AND typeof(row) = 'blob' AND length(row) = ?", (frames, wanted)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error
        row = None if found is None else np.frombuffer(found[0], "<f4")
        if row is not None and not np.isfinite(row).all():
            raise self._damaged("it holds logits that are no finite numbers")
        return row

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all of it."""
        yield from self._connection.execute(
            "SELECT frames, row FROM logits WHERE length(frames) = 32 AND length(row) = ?", (4 * self.about.classes,)
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _damaged(self, reason: str) -> RunnerError:
        return RunnerError(f"{self._path}: damaged: {reason}", fix=FIX)


def _describe(run: Mapping[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


def _insert(connection: sqlite3.Connection, logits: Mapping[bytes, Array]) -> None:
    rows = ((frames, row.astype("<f4").tobytes()) for frames, row in logits.items())
    connection.executemany("INSERT OR IGNORE INTO logits VALUES (?, ?)", rows)


def _read_former(path: Path, about: ReferenceInfo) -> Iterator[tuple[bytes, bytes]]:
    """Yield what an earlier run of the same network and reference stored."""
    try:
        former = StoredLogits(path)
    except RunnerError:
        return
    with closing(former), suppress(sqlite3.DatabaseError):  # a damaged page ends what is there
        if former.about == about:
            yield from former.rows()
