"""The host's versions: its driver, and on a Jetson its Linux release and JetPack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...core.versions import version_numbers

ROOT = Path("/")
TEGRA_RELEASE = "etc/nv_tegra_release"
DRIVER_FILES = ("sys/module/nvidia/version", "proc/driver/nvidia/version")

# Jetson Linux (L4T) releases and the JetPack that came with them, from NVIDIA's Jetson Linux archive.
JETPACKS = {
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "36.5.2": "6.2.3",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
_BY_NUMBER = {version_numbers(l4t): jetpack for l4t, jetpack in JETPACKS.items()}


@dataclass(frozen=True, slots=True)
class Host:
    """Versions, each None where the machine does not tell or has none."""

    driver: str | None = None
    l4t: str | None = None
    jetpack: str | None = None


UNKNOWN_HOST = Host()


def read_host(root: Path = ROOT) -> Host:
    """The versions of this machine; `root` stands for the file system's root."""
    l4t = _read_l4t(root)
    return Host(driver=_read_driver(root), l4t=l4t, jetpack=find_jetpack(l4t) if l4t else None)


def find_jetpack(l4t: str) -> str | None:
    """The JetPack of a Jetson Linux release; of one that is not known, `6.2.3 or newer` by the last known before it."""
    numbers = (*version_numbers(l4t), 0, 0)[:3]
    if numbers in _BY_NUMBER:
        return _BY_NUMBER[numbers]
    before = [known for known in _BY_NUMBER if known[0] == numbers[0] and known < numbers]
    return f"{_BY_NUMBER[max(before)]} or newer" if before else None


def _read_l4t(root: Path) -> str | None:
    """`# R36 (release), REVISION: 4.3, GCID: ...` -> `36.4.3`."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / TEGRA_RELEASE))
    return f"{found[1]}.{found[2]}" if found else None


def _read_driver(root: Path) -> str | None:
    for name in DRIVER_FILES:
        if found := re.search(r"\b\d+\.\d+(?:\.\d+)?\b", _text(root / name)):
            return found[0]
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
