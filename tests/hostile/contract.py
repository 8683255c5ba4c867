"""The promise: an input is taken, or refused in two printable lines, soon, in bounded memory."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dualexport.core.errors import DualExportError

from .mutate import mutate
from .targets import Target

SECONDS = 60


def check_contract(target: Target, content: bytes, path: Path) -> DualExportError | None:
    """Use the file with that content; the error that refuses it, None where it is taken. Anything else is raised."""
    path.write_bytes(content)
    with _within(SECONDS):
        refused = _find_refusal(target, path)
    if refused is not None:
        lines = (str(refused), refused.fix)
        assert all(lines), refused
        assert not set("".join(lines)) & set("\n\r\x1b\0"), lines
    return refused


def _find_refusal(target: Target, path: Path) -> DualExportError | None:
    try:
        target.use(path)
    except DualExportError as error:
        return error
    return None


def check_mutations(target: Target, folder: Path, seed: int, count: int) -> int:
    """Use `count` damaged files of a kind, the random numbers of `seed`; returns how many were refused."""
    path = target.make(folder)
    valid, refused = path.read_bytes(), 0
    for number in range(count):
        content = mutate(valid, random.Random(f"{seed}/{number}"), is_json=target.is_json)
        try:
            refused += check_contract(target, content, path) is not None
        except BaseException:
            print(f"seed {seed}, input {number}: {content[:500]!r}")
            raise
    return refused


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
