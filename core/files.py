"""TODO."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError


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
