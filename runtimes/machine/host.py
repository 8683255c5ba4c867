"""What the machine says of itself: its driver, and on a Jetson its Linux release and JetPack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
TEGRA_RELEASE = "etc/nv_tegra_release"
DRIVER_FILES = ("sys/module/nvidia/version", "proc/driver/nvidia/version")

# Jetson Linux (L4T) releases and the JetPack that came with them, from NVIDIA's Jetson Linux archive.
JETPACKS = {
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
}


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
    return Host(driver=_read_driver(root), l4t=l4t, jetpack=JETPACKS.get(l4t or ""))


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
