"""This process's memory, as Linux tells it; None where there is no such file."""

from __future__ import annotations

import re
from pathlib import Path

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def read_resident_mb() -> float | None:
    """What is resident now, in megabytes."""
    return _read("VmRSS")


def read_peak_mb() -> float | None:
    """The most that was resident since the peak was reset."""
    return _read("VmHWM")


def reset_peak() -> bool:
    """Forget the peak; says whether the system lets one do so."""
    try:
        PEAK_RESET.write_text("5")
    except OSError:
        return False
    return True


def _read(field: str) -> float | None:
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found[1]) * 1024 / 1e6 if found else None
