"""What TensorRT says during a build, as the few lines that a user should read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import DualExportError, EngineError
from .cuda import GpuDevice
from .engine_file import GIB
from .library import RecordingLogger, shorten_message

LISTED_WARNINGS = 5
_TELLING = ("overflow", "underflow", "out of range", "fall", "int8", "precision", "not supported", "unsupported")
_OUT_OF_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "cannot allocate")


def list_warnings(warnings: Iterable[str]) -> tuple[str, ...]:
    """The warnings that bear on numbers or speed, alike ones once with their count, and how many others there were."""
    sentences = [shorten_message(warning) for warning in warnings]
    kinds: dict[str, list[str]] = {}
    for sentence in sentences:
        kinds.setdefault(re.sub(r"\d+|'[^']*'|\[[^]]*\]", "#", sentence), []).append(sentence)
    telling = [alike for alike in kinds.values() if any(word in alike[0].lower() for word in _TELLING)]
    lines = [
        f"TensorRT warns: {alike[0]}{f' ({len(alike)} such warnings)' if len(alike) > 1 else ''}"
        for alike in telling[:LISTED_WARNINGS]
    ]
    others = len(sentences) - sum(map(len, telling[:LISTED_WARNINGS]))
    return (*lines, f"TensorRT warns of {others} other things: --verbose lists them") if others else tuple(lines)


def explain_failure(
    error: DualExportError, logger: RecordingLogger, path: Path, device: GpuDevice | None
) -> DualExportError:
    """`error`, or where the log tells of memory, what was needed and what the GPU has."""
    said = [line for line in logger.errors + logger.warnings if any(word in line.lower() for word in _OUT_OF_MEMORY)]
    if not said or device is None:
        return error
    sizes = [int(size) for line in said for size in re.findall(r"(\d{6,}) ?(?:bytes|B\b)?", line)]
    needed = f"{max(sizes) / GIB:.1f} GiB were asked for" if sizes else shorten_message(said[-1])
    return EngineError(
        f"{path.name}: not enough device memory to build it: {needed}, {device.name} has "
        f"{device.memory_bytes / GIB:.1f} GiB for everything",
        fix="end what else runs (a desktop too), give a smaller --workspace or --optimization-level 2, or add swap "
        "on a Jetson (docs/jetson.md)",
    )
