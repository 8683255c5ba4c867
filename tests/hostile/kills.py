"""Copies of a folder before each change that a command makes: what lies on the disk whenever it could be killed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("replace", "rename", "fsync", "rmdir", "unlink", "chmod", "mkdir")  # calls of `os` that pathlib makes too
STAGED = re.compile(r"\.dualexport-staged-[^/]*")  # a folder that the next run removes, whatever is in it


@dataclass(slots=True)
class Snapshots:
    """Copies of `folder`, each different from the others; a killed process leaves just such a folder, and no lock."""

    folder: Path
    copies: Path
    moments: int = 0
    _seen: set[str] = field(default_factory=set)

    def take(self) -> None:
        """Copy the folder as it is by now, unless it was like this before."""
        self.moments += 1
        state = digest(self.folder)
        if state not in self._seen:
            self._seen.add(state)
            shutil.copytree(self.folder, self.copies / f"{len(self._seen):03d}", symlinks=True)

    def __iter__(self) -> Iterator[Path]:
        return iter(sorted(self.copies.iterdir()))


@contextmanager
def watching(folder: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshots]:
    """Snapshots of `folder` before each change that is made to the file system in the block, and of its end."""
    copies.mkdir()
    snapshots = Snapshots(folder, copies)
    busy = False

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def change(*given: Any, **named: Any) -> Any:
            nonlocal busy
            if not busy:
                busy = True
                try:
                    snapshots.take()
                finally:
                    busy = False
            return call(*given, **named)

        return change

    with monkeypatch.context() as patched:
        for name in CHANGES:
            patched.setattr(os, name, watched(getattr(os, name)))
        yield snapshots
    snapshots.take()


def digest(folder: Path) -> str:
    """A hash of the names and contents below a folder; of what is still staged counts where it is."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: STAGED.sub("*", str(path))):
        staged = STAGED.search(str(path))
        if staged is None or staged.end() == len(str(path)):
            found.update(STAGED.sub("*", path.relative_to(folder).as_posix()).encode() + b"\0")
            with suppress(OSError):
                found.update(path.read_bytes())
    return found.hexdigest()


def list_left(folder: Path) -> list[str]:
    """Names below a folder that belong to no finished run."""
    return [path.name for path in folder.rglob(".dualexport-*")]
