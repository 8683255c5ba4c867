"""Every expected error travels between processes, and carries its fix."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from dualexport.core.errors import CudaError, DualExportError, was_interrupted


def list_errors(base: type[DualExportError] = DualExportError) -> Iterator[type[DualExportError]]:
    """The base and every class below it."""
    yield base
    for kind in base.__subclasses__():
        yield from list_errors(kind)


def make(kind: type[DualExportError]) -> DualExportError:
    return CudaError("no memory", 2, fix="free some") if kind is CudaError else kind("no memory", fix="free some")


@pytest.mark.parametrize("kind", tuple(list_errors()))
def test_an_error_pickles_with_its_fix_and_code(kind: type[DualExportError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.fix) == (kind, "no memory", "free some")
    assert getattr(copy, "code", None) == getattr(error, "code", None)


def test_an_interruption_is_found_behind_what_a_library_made_of_it() -> None:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise AttributeError("half imported")  # noqa: B904  # a library that trips while it cleans up
    except AttributeError as error:
        made = DualExportError("could not trace", fix="install another")
        made.__cause__ = error
    assert was_interrupted(made)
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    assert not was_interrupted(first)
    assert not was_interrupted(DualExportError("could not trace", fix="install another"))
