"""Writes files so that a folder is always the old one or the new one, and tells files apart by their content.

Files are made in a hidden folder beside the place where they will lie, which is locked while its maker lives. When all
are written and on the disk, that folder is renamed to COMMIT, in one step: from then on they count. They are moved to
their names, the manifest last, and COMMIT goes. A run that is killed before the rename leaves the old files and a
folder that nobody has locked, which the next run removes; one killed after it leaves COMMIT, whose moves the next
reader or writer finishes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import DualExportError, OutputError

COMMIT = ".dualexport-commit"
PREFIX = ".dualexport-staged-"
LAST = "manifest.json"  # what counts; it is moved when everything it names is there
POLL_SECONDS = 0.02
LOCK_SECONDS = 60.0  # how long another run's commit, a matter of milliseconds, is waited for


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(slots=True)
class StagedSet:
    """Files that will lie in `folder` together; until then they are made under the same names in `staging`."""

    folder: Path
    staging: Path
    locks: ExitStack
    _is_locked: bool = False

    def path(self, name: str) -> Path:
        """The path to write the file (or folder) to that will be called `name`."""
        _require_replaceable(self.folder / name)
        return self.staging / name

    def lock(self) -> None:
        """Keep other writers of the folder out until the set is done: for what is read, changed and written back.

        Take it when everything else is written, since the others wait for LOCK_SECONDS at most.
        """
        if not self._is_locked:
            self.locks.enter_context(_locked(self.folder))
            self._is_locked = True
            _finish(self.folder)


@contextmanager
def staged_set(folder: Path) -> Iterator[StagedSet]:
    """Files that appear in `folder` together when the block ends, or not at all when it fails.

    Makes the folder where it is missing, and takes a folder it made away again when the block fails. Raises
    OutputError for what the file system refuses (permission, no space).
    """
    made = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    with ExitStack() as locks:
        staged: StagedSet | None = None
        try:
            with _translated(folder):
                folder.mkdir(parents=True, exist_ok=True)
                staged = _begin(folder, locks)
                yield staged
                _commit(staged)
        except BaseException:
            if staged is not None:
                shutil.rmtree(staged.staging, ignore_errors=True)
            with suppress(OSError):
                for one in made:
                    one.rmdir()
            raise


@contextmanager
def staged_path(final: Path) -> Iterator[Path]:
    """The path to write one file to, which appears as `final` when the block ends; otherwise as `staged_set`."""
    with staged_set(final.parent) as staged:
        yield staged.path(final.name)


def require_writable(final: Path) -> None:
    """Raise OutputError where `final` could not be written; nothing stays behind."""
    with suppress(_TriedError), staged_set(final.parent) as staged:
        staged.path(final.name).touch()
        raise _TriedError


class _TriedError(Exception):
    """Ends a staged set that was only tried."""


def finish_commit(folder: Path) -> None:
    """Finish what a killed run had begun to put into `folder`, if there is anything; raises OutputError."""
    if os.path.lexists(folder / COMMIT):
        with _translated(folder), _locked(folder):
            _finish(folder)


def _begin(folder: Path, locks: ExitStack) -> StagedSet:
    """A new staging folder, which `locks` holds; what killed runs left is dealt with first."""
    with _locked(folder):
        for left in folder.glob(f"{PREFIX}*"):
            with suppress(OSError), _locked(left, seconds=0):
                shutil.rmtree(left, ignore_errors=True)
        _finish(folder)
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        locks.enter_context(_locked(staging))
    return StagedSet(folder, staging, locks)


def _commit(staged: StagedSet) -> None:
    """Put the staged files into the folder: one by its rename, several by that of the folder that they are in."""
    mode = _new_file_mode(staged.staging)
    entries = sorted(staged.staging.iterdir())
    for entry in entries:
        _persist(entry, mode)
    staged.lock()
    if len(entries) > 1:
        _sync(staged.staging)
        staged.staging.rename(staged.folder / COMMIT)
        _finish(staged.folder)
        return
    for entry in entries:
        _move(entry, staged.folder)
    staged.staging.rmdir()
    _sync(staged.folder)


def _finish(folder: Path) -> None:
    """Move what lies in the folder's COMMIT to its place, the manifest last; the folder is locked."""
    commit = folder / COMMIT
    if not os.path.lexists(commit):
        return
    for entry in sorted(commit.iterdir(), key=lambda entry: (entry.name == LAST, entry.name)):
        _move(entry, folder)
    _sync(folder)
    commit.rmdir()


def _move(entry: Path, folder: Path) -> None:
    """Rename into the folder; two names of one file, which a rename leaves both, become one."""
    entry.replace(folder / entry.name)
    entry.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of `folder`, which goes when its holder dies; raises BlockingIOError after `seconds` of waiting."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _wait_for_lock(descriptor, time.monotonic() + seconds)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise BlockingIOError(error.errno, "another run is writing there") from error
            time.sleep(POLL_SECONDS)
        except OSError:  # a file system without locks
            return
        else:
            return


def _new_file_mode(folder: Path) -> int:
    """The mode that a new file gets here; libraries that write through temporary files give 0600."""
    probe = folder / ".mode"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            return stat.S_IMODE(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
    finally:
        probe.unlink(missing_ok=True)


def _persist(entry: Path, mode: int) -> None:
    """Bring a staged file, or a staged folder with its files, to the disk, with the modes of new ones."""
    if entry.is_dir():
        for inner in entry.iterdir():
            _persist(inner, mode)
        entry.chmod(mode | (mode & 0o444) >> 2)  # a folder that may be read may be entered
    else:
        entry.chmod(mode)
    _sync(entry)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_replaceable(final: Path) -> None:
    """Raise OutputError where something other than a file lies in the way: a device must not become one."""
    try:
        mode = final.stat().st_mode
    except OSError:
        return  # not there; what else is wrong shows when the file is written
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {final}: it is no regular file", fix="choose another place")


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into an OutputError."""
    try:
        yield
    except DualExportError:  # some are an OSError too
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename2 or error.filename or folder}: {error.strerror or error}",
            fix="make room or permission there, or choose another place",
        ) from error
