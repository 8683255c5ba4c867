"""A file that gets every result as it comes, so that a run which broke off goes on where it stopped.

One line of JSON says of which run it is; records follow, each with its length and a checksum before it. A record that
was not written to its end, and all behind it, is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..core.errors import OutputError
from .portions import PortionLogits, pack_portion, unpack_portion

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, two runs of the same comparison must not be started at once
    fcntl = None  # type: ignore[assignment]

_HEAD = struct.Struct("<II")  # bytes of the record, CRC-32 of them
MAX_HEADER = 1 << 20  # bytes


def name_journal(run: Mapping[str, Any]) -> str:
    """A file name that only runs with the same description have: another run does not touch what this one left."""
    return f"verify-{hashlib.sha256(_header(run)).hexdigest()[:12]}.journal"


class Journal:
    """The results of the run that `run` describes, at `path`; what an interrupted run with the same left is kept.

    Raises OutputError where the file cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.clips = 0  # that it holds, as far as it was replayed or written
        self._file: BinaryIO = _open_locked(path)
        header = _header(run)
        if self._file.readline(MAX_HEADER) != header:
            self._file.seek(0)
            self._file.truncate()
            self._write(header)
        self._start = len(header)

    def replay(self, keys: Iterable[str]) -> Iterator[PortionLogits]:
        """The results that are there, as long as they have the keys expected in this order; the rest is dropped."""
        self._file.seek(self._start)
        whole = self._start
        for key in keys:
            record = self._read_record()
            if record is None or record[0] != key:
                break
            whole = self._file.tell()
            self.clips += record[1].clips
            yield record[1]
        self._file.seek(whole)
        self._file.truncate()

    def append(self, key: str, portion: PortionLogits) -> None:
        """Add one result; from then on it outlives this process."""
        data = pack_portion(portion, key)
        self._write(_HEAD.pack(len(data), zlib.crc32(data)) + data)
        self.clips += portion.clips

    def read(self) -> Iterator[PortionLogits]:
        """All results once more, one at a time in memory."""
        self._file.seek(self._start)
        while record := self._read_record():
            yield record[1]

    def discard(self) -> None:
        """Delete the file: the run is complete."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.clips:
            self.discard()
        self._file.close()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _refused(self.path, error) from error

    def _read_record(self) -> tuple[str, PortionLogits] | None:
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        if length > os.fstat(self._file.fileno()).st_size - self._file.tell():
            return None
        data = self._file.read(length)
        if zlib.crc32(data) != checksum:
            return None
        try:
            return unpack_portion(data)
        except (ValueError, KeyError, TypeError, struct.error):
            return None


def _header(run: Mapping[str, Any]) -> bytes:
    return json.dumps(run, sort_keys=True).encode() + b"\n"


def _open_locked(path: Path) -> BinaryIO:
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise _refused(path, error) from error
    return file


def _refused(path: Path, error: OSError) -> OutputError:
    busy = isinstance(error, BlockingIOError)
    reason = "another run writes it" if busy else error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}", fix="wait for the other run" if busy else "make room there")
