"""Missing extras, named with the line that installs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingDependencyError

EXPORT_EXTRA = frozenset(("torch", "onnxruntime", "onnxsim", "onnxscript", "onnx_ir"))


@contextmanager
def needing_extra(command: str) -> Iterator[None]:
    """Say which `pip install` brings a library of the extra `export` that an import inside finds missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXPORT_EXTRA:
            raise
        raise MissingDependencyError(
            f"`dualexport {command}` needs {error.name}, which is not installed",
            fix='pip install "dualexport[export]"',
        ) from error
