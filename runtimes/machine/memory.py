"""Memory as Linux tells it in /proc, in bytes; None where there is no such file. A kB there has 1024 bytes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
KIB = 1024
STATUS, MEMORY, PEAK_RESET = "proc/self/status", "proc/meminfo", Path("/proc/self/clear_refs")


def read_total_bytes(root: Path = ROOT) -> int | None:
    """The machine's memory."""
    return _read(root / MEMORY, "MemTotal")


def read_available_bytes(root: Path = ROOT) -> int | None:
    """The memory that programs can still take without swapping."""
    return _read(root / MEMORY, "MemAvailable")


def read_swap_bytes(root: Path = ROOT) -> int | None:
    """The swap space, used and free."""
    return _read(root / MEMORY, "SwapTotal")


def read_resident_mb() -> float | None:
    """The resident memory of this process now, in megabytes."""
    return _megabytes(_read(ROOT / STATUS, "VmRSS"))


def read_peak_mb() -> float | None:
    """The most that this process held since the peak was reset, in megabytes."""
    return _megabytes(_read(ROOT / STATUS, "VmHWM"))


def reset_peak() -> bool:
    """Forget the peak; returns False where the system does not let one do so."""
    try:
        PEAK_RESET.write_text("5")
    except OSError:
        return False
    return True


def _read(path: Path, field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * KIB if found else None


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6
