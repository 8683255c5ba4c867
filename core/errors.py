"""Every error that dualexport expects: what is wrong, and `fix`, how to go on."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Any


def printable(text: str) -> str:
    """`text` with what a terminal must not get (control characters, escapes, lone surrogates) spelled out."""
    if text.isprintable():
        return text
    return "".join(one if _is_shown(one) else one.encode("unicode_escape").decode("ascii") for one in text)


def one_line(text: str) -> str:
    """`text` as one printable line."""
    return printable(" ".join(text.split()))


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class DualExportError(Exception):
    """An expected error: its message says what is wrong (got and expected), `fix` how to go on, each in one line."""

    exit_code = 1

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(one_line(message))
        self.fix = one_line(fix)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), fix=self.fix), self.args  # it may come from another process


class CheckpointError(DualExportError):
    """A checkpoint that cannot be read, or is not the network it is said to be."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint that is not there."""


class ClipError(DualExportError):
    """A video or clip source that cannot be read as asked."""


class ClipNotFoundError(ClipError, FileNotFoundError):
    """A video, a folder or a list of videos that is not there."""


class DistillError(DualExportError):
    """A distillation that diverged."""


class ExportError(DualExportError):
    """A network that could not be written as ONNX."""


class GraphError(DualExportError):
    """A file that cannot be read as ONNX, or whose graph is unsound."""


class GraphNotFoundError(GraphError, FileNotFoundError):
    """An ONNX file that is not there."""


class LabelError(DualExportError):
    """A file of class names that cannot be used with the network."""


class LabelNotFoundError(LabelError, FileNotFoundError):
    """A file of class names or labels that is not there."""


class LimitError(DualExportError):
    """A file of limits or thresholds that cannot be read as such."""


class ManifestError(DualExportError):
    """A manifest that is missing, malformed, too new, or no longer fits its files."""


class ManifestNotFoundError(ManifestError, FileNotFoundError):
    """A folder without a manifest, or a file that the manifest lists and that is gone."""


class MissingDependencyError(DualExportError, ImportError):
    """A library that this command needs is not installed."""


class OptionError(DualExportError, ValueError):
    """Options that do not go together, or a value that an option does not take."""

    exit_code = 2


class OutputError(DualExportError, OSError):
    """A file or folder that cannot be written."""


class ParityError(DualExportError):
    """An artifact that does not compute what its reference computes."""


class QuantizationError(DualExportError):
    """A network or clips that cannot be quantized as asked, or a calibration that does not belong to the network."""


class RunnerError(DualExportError):
    """An artifact that a runtime cannot load or run."""


class StoredNotFoundError(RunnerError, FileNotFoundError):
    """A file of stored logits that is not there."""


class EngineError(DualExportError):
    """An engine that cannot be built, or not be loaded here."""


class EngineNotFoundError(EngineError, FileNotFoundError):
    """An engine that is not there."""


class PlanError(DualExportError):
    """A network that TensorRT does not compile, or a plan that cannot be read."""


class CudaError(DualExportError):
    """A CUDA call that failed; `code` is its cudaError_t."""

    def __init__(self, message: str, code: int, *, fix: str) -> None:
        super().__init__(message, fix=fix)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), code=self.code, fix=self.fix), self.args


class BenchError(DualExportError):
    """A bench.json that is no measurement of `dualexport bench`."""


class BundleError(DualExportError):
    """A bundle that cannot be made, or that must not or cannot be unpacked."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """A bundle that is not there."""


class LintError(DualExportError):
    """A file that cannot be read as ONNX."""


class SelectionError(DualExportError, ValueError):
    """A token selection that is not understood, or that the network's grids cannot take."""


class StreamError(DualExportError):
    """A live source that cannot be opened, stalls or broke off, and did not come back."""


class StreamNotFoundError(StreamError, FileNotFoundError):
    """A video file that is not there."""


def was_interrupted(error: BaseException) -> bool:
    """True where a library made an error of its own of the interruption that it was stopped by."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()  # errors may lead back to each other
    while left:
        found = left.pop()
        if isinstance(found, KeyboardInterrupt):
            return True
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            left += (found.__cause__, found.__context__)
    return False
