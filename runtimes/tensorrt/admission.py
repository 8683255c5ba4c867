"""Refuses engines that cannot be loaded here, before TensorRT sees the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.choices import Precision
from ...core.errors import EngineError
from ...core.versions import agree, is_older, version_numbers
from .engine_file import EngineRecord, read_engine_version, rebuild_command

OLDEST_RTX = "8.0"  # compute capability that an engine for all RTX GPUs needs at least
NOT_RTX = ("9.", "10.", "11.")  # of GPUs in data centres and Jetsons, which TensorRT for RTX does not list as supported
OLDEST_AMPERE = "8.0"


@dataclass(frozen=True, slots=True)
class Installation:
    """The TensorRT library that would load the engine, in its version or the one for RTX, and the GPU."""

    version: str
    for_rtx: bool
    compute_capability: str

    def __str__(self) -> str:
        library = f"TensorRT{' for RTX' if self.for_rtx else ''} {self.version}"
        return f"{library} on compute capability {self.compute_capability}"


def require_loadable(path: Path, record: EngineRecord | None, here: Installation) -> None:
    """Raise EngineError unless the engine at `path` can be loaded `here`, naming both sides and how to build another.

    Without a record, only the TensorRT version in the file's header is known.
    """
    version, for_rtx = read_engine_version(path)
    if record is not None:
        version = record.tensorrt
    fits_version = agree(version, here.version) or (
        record is not None and record.version_compatible and _is_later(here.version, version)
    )
    if for_rtx == here.for_rtx and fits_version and (record is None or _fits_gpu(record, here.compute_capability)):
        return
    built = f"TensorRT{' for RTX' if for_rtx else ''} {version}"
    if record is not None and record.compute_capability is not None:
        built += f" for compute capability {record.compute_capability}" + (f" ({record.gpu})" if record.gpu else "")
    raise EngineError(
        f"{path.name} was built by {built}; here is {here}",
        fix=f"build it here: {rebuild_command(path.parent, precision_in_name(path))}",
    )


def explain_unloadable(error: EngineError, here: Installation) -> EngineError:
    """`error`, which TensorRT gave for an engine that fits by its record, with a remedy that can help `here`."""
    if not (here.for_rtx and here.compute_capability.startswith(NOT_RTX)):
        return error
    supported = "TensorRT for RTX supports GeForce and RTX GPUs (compute capability 7.5, 8.x, 12.x)"
    return EngineError(
        f"{error}; {supported}, here is {here.compute_capability}",
        fix='install TensorRT itself, pip install "dualexport[tensorrt]", and build the engine again',
    )


def precision_in_name(path: Path) -> Precision:
    """The precision that an engine's name holds, FP16 where it holds none."""
    parts = path.name.split(".")
    return next((precision for precision in Precision if precision.value in parts), Precision.FP16)


def _fits_gpu(record: EngineRecord, capability: str) -> bool:
    if record.compute_capability is None:
        return not record.for_rtx or not is_older(capability, OLDEST_RTX)
    if record.for_rtx:
        return capability in record.compute_capability.split()
    if record.compatible == "ampere+":
        return not is_older(capability, OLDEST_AMPERE)
    return capability == record.compute_capability


def _is_later(version: str, built: str) -> bool:
    """True when `version` is of the same major version as `built`, and not older."""
    return version_numbers(version)[:1] == version_numbers(built)[:1] and not is_older(version, built)
