"""TensorRT's messages during a build, as the few lines that a user should read."""

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
_SKIPPED = ("skipping tactic", "insufficient to use tactic")  # for want of memory; normal on a small device
_OUT_OF_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "cannot allocate", "could not be allocated")
_NOTHING_LEFT = "could not find any implementation"  # what a build ends with that had to skip every kernel of a layer
_MIB = 1 << 20


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
    """Return `error`, or where TensorRT failed for want of memory, what it asked for and what the GPU has.

    Kernels that were skipped for want of memory are no reason by themselves: TensorRT goes on with others.
    """
    skipped = [line for line in logger.warnings if _tells(line, _SKIPPED)]
    refused = [line for line in logger.errors if _tells(line, _OUT_OF_MEMORY)]
    exhausted = [line for line in logger.errors if skipped and _NOTHING_LEFT in line.lower()]
    if device is None or not (refused or exhausted):
        return error
    sizes = [size for line in refused or skipped for size in _read_sizes(line)]
    needed = f" ({max(sizes) / GIB:.1f} GiB were asked for)" if sizes else ""
    return EngineError(
        f"{path.name}: not enough device memory to build it{needed}, {device.name} has "
        f"{device.memory_bytes / GIB:.1f} GiB for everything: {shorten_message((refused or exhausted)[0])}",
        fix="end what else runs (a desktop too), give a smaller --workspace or --optimization-level 2, or add swap "
        "on a Jetson (docs/jetson.md)",
    )


def _tells(line: str, words: tuple[str, ...]) -> bool:
    return any(word in line.lower() for word in words)


def _read_sizes(line: str) -> list[int]:
    """Sizes in bytes that a message names: `9663676416 bytes`, or in MiB `requested size of 4229`."""
    in_bytes = [int(size) for size in re.findall(r"(\d+) ?bytes", line)]
    return in_bytes or [int(size) * _MIB for size in re.findall(r"requested size of (\d+)", line)]
