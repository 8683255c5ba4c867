"""The machine a figure was measured on, and its state: power mode, clocks, temperatures; None where it is not known.

Everything is read below a root folder, `/` but for tests.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .host import read_host

ROOT = Path("/")
NVIDIA_SMI_SECONDS = 10
GPU_CLOCKS = re.compile(r"gpu|gv11b|ga10b|gpc", re.IGNORECASE)  # of Jetson's device-frequency entries


@dataclass(frozen=True, slots=True)
class Environment:
    """What the machine is."""

    machine: str | None
    cpu: str | None
    cpu_cores: int | None
    memory_gb: float | None
    system: str | None
    kernel: str
    gpu: str | None
    gpu_driver: str | None
    jetson_release: str | None
    power_mode: str | None


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the machine is doing: clocks in MHz, the hottest sensor in degrees Celsius, load of the last minute."""

    cpu_mhz: float | None
    gpu_mhz: float | None
    memory_mhz: float | None
    temperature_c: float | None
    gpu_temperature_c: float | None
    load: float | None


def read_environment(root: Path = ROOT) -> Environment:
    """The machine as its own files describe it."""
    gpu, host = _ask_nvidia_smi(root, "name,driver_version"), read_host(root)
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo") or "")
    cpu = re.search(r"model name\s*:\s*(.+)", _read(root / "proc/cpuinfo") or "")
    system = re.search(r'PRETTY_NAME="?([^"\n]+)', _read(root / "etc/os-release") or "")
    return Environment(
        machine=_read(root / "proc/device-tree/model") or _read(root / "sys/class/dmi/id/product_name"),
        cpu=cpu[1] if cpu else platform.machine(),
        cpu_cores=os.cpu_count(),
        memory_gb=round(int(memory[1]) / 1e6, 1) if memory else None,
        system=system[1] if system else None,
        kernel=platform.release(),
        gpu=gpu[0] if gpu else None,
        gpu_driver=gpu[1] if gpu else host.driver,
        jetson_release=f"{host.l4t} (JetPack {host.jetpack or 'not known'})" if host.l4t else None,
        power_mode=_read_power_mode(root),
    )


def read_state(root: Path = ROOT) -> DeviceState:
    """Clocks, temperatures and load as they are now."""
    gpu = _ask_nvidia_smi(root, "clocks.sm,clocks.mem,temperature.gpu")
    cores = [_read_number(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    clocks = [value for value in cores if value is not None]
    entries = [path for path in root.glob("sys/class/devfreq/*/cur_freq") if GPU_CLOCKS.search(path.parent.name)]
    gpu_hertz = _read_number(entries[0]) if entries else None
    zones = [_read_number(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    temperatures = [value / 1e3 for value in zones if value is not None and value > 0]
    load = _read(root / "proc/loadavg")
    return DeviceState(
        cpu_mhz=max(clocks) / 1e3 if clocks else None,
        gpu_mhz=gpu_hertz / 1e6 if gpu_hertz is not None else _number(gpu, 0),
        memory_mhz=_number(gpu, 1),
        temperature_c=max(temperatures) if temperatures else None,
        gpu_temperature_c=_number(gpu, 2),
        load=float(load.split()[0]) if load else None,
    )


def _read_power_mode(root: Path) -> str | None:
    """The name that nvpmodel's settings give to the mode in its status file."""
    status = re.search(r"pmode:(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    if not status:
        return None
    settings = _read(root / "etc/nvpmodel.conf") or ""
    names = {int(number): name for number, name in re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", settings)}
    mode = int(status[1])
    return str(names.get(mode, f"mode {mode}"))


def _ask_nvidia_smi(root: Path, query: str) -> list[str] | None:
    """What nvidia-smi says of the first GPU; None where it is not installed or fails."""
    program = next(
        (path for path in map(root.joinpath, ("usr/bin/nvidia-smi", "bin/nvidia-smi")) if path.is_file()), None
    )
    if program is None:
        return None
    command = [str(program), f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    fields = [field.strip() for field in answer.stdout.splitlines()[0].split(",")] if answer.stdout.strip() else []
    return fields if len(fields) == query.count(",") + 1 else None


def _number(fields: list[str] | None, index: int) -> float | None:
    try:
        return float(fields[index]) if fields else None
    except ValueError:  # `[N/A]`
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _read_number(path: Path) -> float | None:
    text = _read(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None
