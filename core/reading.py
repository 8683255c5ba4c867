"""The door for files that come from outside: regular files (or a pipe, read once), bounded, and in one line refused."""

from __future__ import annotations

import os
import select
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from .errors import DualExportError

PIPE_SECONDS = 10.0  # how long a pipe may be silent before it is given up
CHUNK_BYTES = 1 << 20
TEXT_BYTES = 64 << 20
BOM = "\ufeff"
Document = TypeVar("Document")

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that users give: its `title` in messages ("a manifest"), its error and fix, its largest size.

    `missing` is the error of a file that is not there (a FileNotFoundError too), where the kind has one.
    """

    title: str
    error: type[DualExportError]
    fix: str
    max_bytes: int = TEXT_BYTES
    missing: type[DualExportError] | None = None
    missing_fix: str = ""

    def refuse(self, path: Path, reason: str) -> DualExportError:
        """The error that says why the file at `path` is not of this kind."""
        return self.error(f"{path} is not {self.title}: {reason}", fix=self.fix)

    def require(self, path: Path) -> Path:
        """`path`, if it is a regular file of at most `max_bytes`; raises the kind's error otherwise.

        For files that a library opens by name.
        """
        status = self._stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise self._refuse_mode(path, status.st_mode)
        if status.st_size > self.max_bytes:
            raise self._too_large(path)
        if not os.access(path, os.R_OK):
            raise self.refuse(path, "Permission denied")
        return path

    def read_bytes(self, path: Path) -> bytes:
        """The content of a regular file; raises the kind's error for any other, and for one beyond `max_bytes`."""
        self.require(path)
        return self._read(path)

    def read_start(self, path: Path, count: int) -> bytes:
        """The first bytes of a regular file, `count` at most."""
        self.require(path)
        try:
            with path.open("rb") as file:
                return file.read(count)
        except OSError as error:
            raise self.refuse(path, error.strerror or str(error)) from error

    def read_text(self, path: Path) -> str:
        """UTF-8 text of a regular file, or of a pipe, which gives it once; a byte order mark is taken off."""
        status = self._stat(path)
        content = self._read(path) if stat.S_ISFIFO(status.st_mode) else self.read_bytes(path)
        try:
            return content.decode("utf-8").removeprefix(BOM)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self.refuse(path, f"line {line} is not UTF-8 text") from error

    def read_json(self, path: Path, document: type[Document]) -> Document:
        """The JSON document in a regular file, of the given type and within its bounds."""
        return self.parse_json(path, self.read_bytes(path), document)

    def parse_json(self, path: Path, content: bytes, document: type[Document]) -> Document:
        """The same, of content that has been read from `path`."""
        try:
            content.decode()  # what lies in a field that the document does not have is not looked at otherwise
            return msgspec.json.decode(content, type=document)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise self.refuse(path, str(error).replace("`", "")) from error

    def _stat(self, path: Path) -> os.stat_result:
        try:
            return path.stat()
        except FileNotFoundError as error:
            missing = self.missing or self.error
            raise missing(f"{path}: no such file", fix=self.missing_fix or self.fix) from error
        except (OSError, ValueError) as error:
            raise self.refuse(path, getattr(error, "strerror", None) or str(error)) from error

    def _read(self, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self.refuse(path, error.strerror or str(error)) from error
        content, deadline = bytearray(), time.monotonic() + PIPE_SECONDS
        try:
            while chunk := self._read_chunk(descriptor, deadline, path):
                content += chunk
                if len(content) > self.max_bytes:
                    raise self._too_large(path)
        except OSError as error:
            raise self.refuse(path, error.strerror or str(error)) from error
        finally:
            os.close(descriptor)
        return bytes(content)

    def _read_chunk(self, descriptor: int, deadline: float, path: Path) -> bytes:
        """The next bytes, none at the end; a pipe's writer is waited for until the deadline."""
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.read(descriptor, CHUNK_BYTES)
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self.refuse(path, f"nothing was written to this pipe for {PIPE_SECONDS:g} s")
        return os.read(descriptor, CHUNK_BYTES)

    def _refuse_mode(self, path: Path, mode: int) -> DualExportError:
        return self.refuse(path, next((reason for test, reason in _KINDS if test(mode)), "it is no regular file"))

    def _too_large(self, path: Path) -> DualExportError:
        return self.refuse(path, f"it is larger than {format_bytes(self.max_bytes)}")


def is_there(path: Path) -> bool:
    """True where something lies at `path`; what cannot be looked at, a name too long for a file too, is not there."""
    return _mode_of(path) != 0


def is_file(path: Path) -> bool:
    """True where a regular file lies at `path`."""
    return stat.S_ISREG(_mode_of(path))


def is_folder(path: Path) -> bool:
    """True where a folder lies at `path`."""
    return stat.S_ISDIR(_mode_of(path))


def _mode_of(path: Path) -> int:
    """The mode of what lies at `path`, 0 for what cannot be looked at: pathlib raises for some of that."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def format_bytes(count: float) -> str:
    """A size in the largest binary unit below it: `1.5 GiB`."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
