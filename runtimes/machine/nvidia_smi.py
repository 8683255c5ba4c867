"""nvidia-smi: the program that tells what the GPU's driver knows and CUDA does not say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

NAME = "nvidia-smi"
PLACES = ("usr/bin", "bin", "usr/sbin", "sbin", "usr/local/nvidia/bin", "usr/local/bin", "usr/lib/wsl/lib", "opt/bin")
SECONDS = 10
ROOT = Path("/")


def find_nvidia_smi(root: Path = ROOT) -> str | None:
    """The program in PATH, else where drivers put it: bare machines, JetPack 6 and WSL have it outside of PATH."""
    on_path = shutil.which(NAME) if root == ROOT else None
    return on_path or next((str(path) for place in PLACES if (path := root / place / NAME).is_file()), None)


def ask_nvidia_smi(query: str, pci_bus_id: str | None = None, root: Path = ROOT) -> dict[str, str] | None:
    """The fields of `query` of one GPU, or None where the program is missing or fails.

    That GPU is the one at `pci_bus_id`, else the first that CUDA_VISIBLE_DEVICES names, else the first there is.
    """
    program = find_nvidia_smi(root)
    if program is None:
        return None
    chosen = pci_bus_id or os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits"] + (
        [f"--id={chosen}"] if chosen else []
    )
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    fields = [field.strip() for field in answer.stdout.splitlines()[0].split(",")] if answer.stdout.strip() else []
    names = query.split(",")
    return dict(zip(names, fields, strict=True)) if len(fields) == len(names) else None
