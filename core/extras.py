"""Missing extras, named with the line that installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingDependencyError

EXPORT_EXTRA = frozenset(("torch", "onnxruntime", "onnxsim", "onnxscript", "onnx_ir"))


def require_libraries(command: str, *libraries: str) -> None:
    """Raise MissingDependencyError where one of the libraries is not installed; nothing is imported."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise _missing(command, library)


@contextmanager
def needing_extra(command: str) -> Iterator[None]:
    """Say which `pip install` brings a library of the extra `export` that an import inside finds missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXPORT_EXTRA:
            raise
        raise _missing(command, error.name) from error


def _missing(command: str, library: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"`dualexport {command}` needs {library}, which is not installed", fix='pip install "dualexport[export]"'
    )
