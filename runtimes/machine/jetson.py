"""A Jetson's own conditions, in the order in which they can fail, each with its remedy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import CudaError, MissingDependencyError
from ...core.versions import is_older
from ..tensorrt.cuda import open_cuda
from .diagnose import OLDEST_TENSORRT, Diagnosis
from .environment import Environment
from .host import Host
from .memory import ROOT, read_available_bytes, read_swap_bytes, read_total_bytes

OLDEST_JETPACK = "6.1"
LEAST_FREE_GB, SMALL_MODULE_GB = 2.0, 12.0
INSPECTOR = "gst-inspect-1.0"
ELEMENTS = {  # of GStreamer, and the package that brings each
    "nvarguscamerasrc": "nvidia-l4t-camera",
    "nvvidconv": "nvidia-l4t-gstreamer",
    "nvv4l2decoder": "nvidia-l4t-gstreamer",
    "rtspsrc": "gstreamer1.0-plugins-good",
}
SECONDS = 10


@dataclass(frozen=True, slots=True)
class JetsonState:
    """The facts to examine on a Jetson; None where the machine does not tell.

    `cuda` is the driver's CUDA version once CUDA has started, else `cuda_error` and `cuda_fix` say why it did not.
    """

    host: Host
    tensorrt: str | None
    cuda: str | None
    cuda_error: str
    cuda_fix: str
    power_mode: str | None
    locked_clocks: bool | None
    memory_gb: float | None
    free_gb: float | None
    swap_gb: float | None
    cameras: tuple[str, ...]
    missing_elements: tuple[str, ...] | None


def read_jetson(host: Host, environment: Environment, tensorrt: str | None, root: Path = ROOT) -> JetsonState:
    """The state of this machine; `tensorrt` is the version that is installed."""
    cuda, error, fix = _start_cuda()
    return JetsonState(
        host=host,
        tensorrt=tensorrt,
        cuda=cuda,
        cuda_error=error,
        cuda_fix=fix,
        power_mode=environment.power_mode,
        locked_clocks=environment.locked_clocks,
        memory_gb=_gigabytes(read_total_bytes(root)),
        free_gb=_gigabytes(read_available_bytes(root)),
        swap_gb=_gigabytes(read_swap_bytes(root)),
        cameras=tuple(sorted(f"/dev/{path.name}" for path in (root / "dev").glob("video[0-9]*"))),
        missing_elements=_list_missing_elements(),
    )


def examine_jetson(state: JetsonState) -> tuple[Diagnosis, ...]:
    """Every finding, good ones included, what stops the rest first; one alone where this is no Jetson."""
    if state.host.l4t is None:
        return (Diagnosis("Jetson", "no", "a Jetson with JetPack 6.1 or newer", "run this on the Jetson", ("trt",)),)
    return (
        _look_at_jetpack(state.host),
        _look_at_tensorrt(state.tensorrt),
        _look_at_cuda(state),
        *_look_at_speed(state),
        *_look_at_memory(state),
        *_look_at_camera(state),
    )


def _look_at_jetpack(host: Host) -> Diagnosis:
    needed, found = f"{OLDEST_JETPACK} or newer", f"{host.jetpack or 'not known'} (Jetson Linux {host.l4t})"
    if host.jetpack is not None and not is_older(host.jetpack.partition(" ")[0], OLDEST_JETPACK):
        return Diagnosis("JetPack", found, needed)
    return Diagnosis("JetPack", found, needed, "flash or upgrade to JetPack 6.2: it brings TensorRT 10.3", ("trt",))


def _look_at_tensorrt(version: str | None) -> Diagnosis:
    needed = f"{OLDEST_TENSORRT} or newer, JetPack's own"
    if version is not None and not is_older(version, OLDEST_TENSORRT):
        return Diagnosis("TensorRT", version, needed)
    remedy = (
        "sudo apt-get install python3-libnvinfer libnvinfer-bin; then a venv with --system-site-packages, and never "
        "pip install tensorrt"
    )
    return Diagnosis("TensorRT", version or "not importable", needed, remedy, ("trt", "plan"))


def _look_at_cuda(state: JetsonState) -> Diagnosis:
    needed = "cuda-bindings that the driver runs"
    if state.cuda is not None:
        return Diagnosis("CUDA", f"starts, the driver is for CUDA {state.cuda}", needed)
    return Diagnosis("CUDA", state.cuda_error, needed, state.cuda_fix, ("trt", "bench", "stream"))


def _look_at_speed(state: JetsonState) -> Iterator[Diagnosis]:
    mode = state.power_mode or "not known"
    fast = mode.upper().startswith("MAXN")
    yield Diagnosis("power mode", mode, "MAXN, to measure", "" if fast else "sudo nvpmodel -m 0 (see nvpmodel -p)")
    found = {None: "not known", True: "locked", False: "free to fall"}[state.locked_clocks]
    remedy = "" if state.locked_clocks else "sudo jetson_clocks"
    yield Diagnosis("GPU clock", found, "locked, to measure", remedy)


def _look_at_memory(state: JetsonState) -> Iterator[Diagnosis]:
    free, total, swap = state.free_gb, state.memory_gb, state.swap_gb
    enough = free is not None and free >= LEAST_FREE_GB
    yield Diagnosis(
        "memory",
        "not known" if free is None or total is None else f"{free:.1f} of {total:.1f} GB free",
        f"{LEAST_FREE_GB:g} GB free to build size t",
        "" if enough else "sudo systemctl isolate multi-user.target ends the desktop",
    )
    small = total is not None and total < SMALL_MODULE_GB
    lacking = small and not swap
    yield Diagnosis(
        "swap",
        "not known" if swap is None else f"{swap:.1f} GB",
        "8 GB on a module with 8 GB" if small else "none",
        "sudo fallocate -l 8G /swap && sudo chmod 600 /swap && sudo mkswap /swap && sudo swapon /swap"
        if lacking
        else "",
    )


def _look_at_camera(state: JetsonState) -> Iterator[Diagnosis]:
    connect = "connect one; a CSI camera is set up by sudo /opt/nvidia/jetson-io/jetson-io.py"
    yield Diagnosis("camera", ", ".join(state.cameras) or "none", "one, for stream", "" if state.cameras else connect)
    missing = state.missing_elements
    if missing is None:
        yield Diagnosis("GStreamer", "none", "for CSI cameras", "sudo apt-get install gstreamer1.0-tools")
        return
    packages = " ".join(sorted({ELEMENTS[name] for name in missing}))
    found = f"without {', '.join(missing)}" if missing else "has " + ", ".join(ELEMENTS)
    yield Diagnosis("GStreamer", found, "for CSI cameras", f"sudo apt-get install {packages}" if missing else "")


def _start_cuda() -> tuple[str | None, str, str]:
    """The driver's CUDA version where CUDA starts, else why not and what to do."""
    try:
        cuda = open_cuda()
        cuda.start()
        return cuda.driver_version() or "not known", "", ""
    except (CudaError, MissingDependencyError) as error:
        return None, str(error), error.fix


def _list_missing_elements() -> tuple[str, ...] | None:
    """The elements of GStreamer that are not installed; None without GStreamer's tools."""
    program = shutil.which(INSPECTOR)
    if program is None:
        return None
    return tuple(name for name in ELEMENTS if not _has_element(program, name))


def _has_element(program: str, name: str) -> bool:
    try:
        found = subprocess.run([program, "--exists", name], timeout=SECONDS, check=False, capture_output=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
    return found.returncode == 0


def _gigabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e9
