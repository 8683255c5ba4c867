"""The machine a figure was measured on, and its state: power mode, clocks, power, temperatures; None if not known.

Everything is read below a root folder, `/` but for tests.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..tensorrt.cuda import GpuDevice
from .host import read_host
from .memory import read_total_bytes
from .nvidia_smi import ask_nvidia_smi

ROOT = Path("/")
GPU_CLOCKS = re.compile(r"gpu|gv11b|ga10b|gpc", re.IGNORECASE)  # of Jetson's device-frequency entries


REASONS = {  # bits of NVML's reasons for clocks below the highest; that the GPU is idle or was told so is none
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine. `gpu_max_mhz` is the highest clock of the GPU; `locked_clocks` is true after `jetson_clocks`."""

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
    gpu_max_mhz: float | None = None
    persistence_mode: str | None = None
    locked_clocks: bool | None = None


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The machine's state: clocks in MHz, hottest sensor in degrees Celsius, power in watts, load of the last minute.

    `slowed_by` names what keeps the GPU's clocks down, empty where nothing does.
    """

    cpu_mhz: float | None
    gpu_mhz: float | None
    memory_mhz: float | None
    temperature_c: float | None
    gpu_temperature_c: float | None
    load: float | None
    gpu_power_w: float | None = None
    slowed_by: str | None = None


def read_environment(root: Path = ROOT, device: GpuDevice | None = None) -> Environment:
    """The machine as its own files describe it; `device` is the GPU that CUDA uses, whose name goes before others."""
    place = device.pci_bus_id if device else None
    gpu, host = ask_nvidia_smi("name,driver_version", place, root), read_host(root)
    clocks = ask_nvidia_smi("clocks.max.sm,persistence_mode", place, root)
    memory = read_total_bytes(root)
    cpu = re.search(r"model name\s*:\s*(.+)", _read(root / "proc/cpuinfo") or "")
    system = re.search(r'PRETTY_NAME="?([^"\n]+)', _read(root / "etc/os-release") or "")
    return Environment(
        machine=_read(root / "proc/device-tree/model") or _read(root / "sys/class/dmi/id/product_name"),
        cpu=cpu[1] if cpu else platform.machine(),
        cpu_cores=os.cpu_count(),
        memory_gb=round(memory / 1e9, 1) if memory else None,
        system=system[1] if system else None,
        kernel=platform.release(),
        gpu=device.name if device else gpu["name"] if gpu else None,
        gpu_driver=gpu["driver_version"] if gpu else host.driver,
        jetson_release=f"{host.l4t} (JetPack {host.jetpack or 'not known'})" if host.l4t else None,
        power_mode=_read_power_mode(root),
        gpu_max_mhz=_read_gpu_mhz(root, "max_freq") or _number(clocks, "clocks.max.sm"),
        persistence_mode=clocks["persistence_mode"] if clocks else None,
        locked_clocks=_read_locked_clocks(root),
    )


def read_state(root: Path = ROOT, device: GpuDevice | None = None) -> DeviceState:
    """Clocks, temperatures, power and load as they are now."""
    place = device.pci_bus_id if device else None
    gpu = ask_nvidia_smi("clocks.sm,clocks.mem,temperature.gpu,power.draw", place, root)
    reasons = ask_nvidia_smi("clocks_event_reasons.active", place, root) or ask_nvidia_smi(
        "clocks_throttle_reasons.active", place, root
    )
    cores = [_read_number(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    clocks = [value for value in cores if value is not None]
    gpu_mhz = _read_gpu_mhz(root, "cur_freq")
    zones = [_read_number(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    temperatures = [value / 1e3 for value in zones if value is not None and value > 0]
    load = _read(root / "proc/loadavg")
    return DeviceState(
        cpu_mhz=max(clocks) / 1e3 if clocks else None,
        gpu_mhz=_number(gpu, "clocks.sm") if gpu_mhz is None else gpu_mhz,
        memory_mhz=_number(gpu, "clocks.mem"),
        temperature_c=max(temperatures) if temperatures else None,
        gpu_temperature_c=_number(gpu, "temperature.gpu"),
        load=float(load.split()[0]) if load else None,
        gpu_power_w=_number(gpu, "power.draw"),
        slowed_by=_name_reasons(reasons),
    )


def _read_gpu_mhz(root: Path, name: str) -> float | None:
    """A frequency of a Jetson's GPU: the `cur_freq`, `min_freq` or `max_freq` of its device-frequency entry."""
    entries = [path for path in root.glob(f"sys/class/devfreq/*/{name}") if GPU_CLOCKS.search(path.parent.name)]
    hertz = _read_number(entries[0]) if entries else None
    return None if hertz is None else hertz / 1e6


def _read_locked_clocks(root: Path) -> bool | None:
    """True when a Jetson's GPU may not clock down, which is what `jetson_clocks` does; None elsewhere."""
    lowest, highest = (_read_gpu_mhz(root, f"{name}_freq") for name in ("min", "max"))
    return None if lowest is None or highest is None else lowest == highest


def _read_power_mode(root: Path) -> str | None:
    """The name that nvpmodel's settings give to the mode in its status file."""
    status = re.search(r"pmode:(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    if not status:
        return None
    settings = _read(root / "etc/nvpmodel.conf") or ""
    names = {int(number): name for number, name in re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", settings)}
    mode = int(status[1])
    return str(names.get(mode, f"mode {mode}"))


def _number(fields: Mapping[str, str] | None, name: str) -> float | None:
    try:
        return float(fields[name]) if fields else None
    except ValueError:  # `[N/A]`
        return None


def _name_reasons(fields: Mapping[str, str] | None) -> str | None:
    """The reasons that keep the clocks down, from nvidia-smi's bit field; None where it has none."""
    try:
        bits = int(next(iter(fields.values())), 16) if fields else None
    except ValueError:
        return None
    return None if bits is None else ", ".join(name for bit, name in REASONS.items() if bits & bit)


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
