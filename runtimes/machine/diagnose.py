"""Diagnosis of a machine: what is installed, what each command lacks, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...core.versions import is_older
from .environment import Environment

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
OLDEST_TENSORRT = "10.0"
LEAST_MEMORY_GB, LEAST_DISK_GB = 4.0, 1.0
NO_GPU = "build and run engines on a machine with one; all else works here"
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4")
# CUDA's release notes: the oldest Linux driver of a CUDA generation. A Jetson's driver comes with its JetPack.
OLDEST_DRIVER = {12: 525, 13: 580}
NEEDED_BY: Mapping[str, tuple[str, ...]] = {
    "torch": ("onnx", "tune", "distill"),
    "onnxruntime": ("onnx", "int8", "fp8", "tune"),
    "onnxscript": ("onnx", "tune"),
    "onnxsim": ("onnx", "tune"),
    "cuda-bindings": ("trt",),
}
ONE_OF: Mapping[str, tuple[str, ...]] = {  # a command, and what runs its networks: any of them will do
    "verify": ("onnxruntime", "TensorRT"),  # without torch: --reference onnx or expected
    "predict": ("onnxruntime", "TensorRT", "torch"),
    "bench": ("onnxruntime", "TensorRT", "torch"),
    "stream": ("onnxruntime", "TensorRT", "torch"),
    "bundle": ("onnxruntime", "torch"),
}
COMMANDS = (
    "onnx",
    "int8",
    "fp8",
    "verify",
    "predict",
    "bench",
    "tune",
    "distill",
    "stream",
    "trt",
    "bundle",
    "plan",
    "lint",
    "synth",
    "triton",
    "deepstream",
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A distribution, the oldest version that serves, the extra it belongs to ("" for all commands), what is here."""

    name: str
    oldest: str
    extra: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts to examine. `unwritable` says why the current folder cannot be written, None where it can.

    TensorRT for RTX counts its versions from 1.0, and builds without a GPU.
    """

    python: tuple[int, int]
    requirements: Sequence[Requirement]
    tensorrt: str | None
    for_rtx: bool
    cuda_generation: int | None
    decoders: frozenset[str]
    environment: Environment
    free_memory_gb: float | None
    free_disk_gb: float
    unwritable: str | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line: what was looked at, what is here, what it takes; and where it does not do, which commands it stops.

    `remedy` is empty where nothing has to be done.
    """

    subject: str
    found: str
    needed: str
    remedy: str = ""
    stops: tuple[str, ...] = ()


def diagnose(machine: Machine) -> tuple[Diagnosis, ...]:
    """Every finding, in a fixed order, good ones included."""
    return (
        _look_at_python(machine.python),
        *(_look_at_library(requirement, machine) for requirement in machine.requirements),
        _look_at_tensorrt(machine),
        _look_at_gpu(machine),
        _look_at_driver(machine),
        _look_at_memory(machine),
        *(_look_at_decoder(name, machine.decoders) for name in DECODERS),
        _look_at_folder(machine),
    )


def _look_at_python(version: tuple[int, int]) -> Diagnosis:
    oldest, newest = (f"{major}.{minor}" for major, minor in (OLDEST_PYTHON, NEWEST_PYTHON))
    found, needed = f"{version[0]}.{version[1]}", f"{oldest} to {newest}"
    if version < OLDEST_PYTHON:
        return Diagnosis("Python", found, needed, f"install Python {newest}", COMMANDS)
    remedy = "" if version <= NEWEST_PYTHON else f"not tested: Python {newest} is the newest that was"
    return Diagnosis("Python", found, needed, remedy)


def _look_at_library(requirement: Requirement, machine: Machine) -> Diagnosis:
    name, needed = requirement.name, f"{requirement.oldest} or newer"
    if _serves(requirement):
        return Diagnosis(name, str(requirement.found), needed)
    extra = _choose_extra(requirement.extra, machine)
    remedy = f'pip install "dualexport[{extra}]"' if extra else "pip install -U dualexport"
    return Diagnosis(name, requirement.found or "not installed", needed, remedy, _list_stopped(requirement, machine))


def _choose_extra(extra: str, machine: Machine) -> str:
    """The extra to install: on a Jetson what JetPack lacks, elsewhere TensorRT with what running it needs."""
    if extra != "gpu":
        return extra
    return "jetson" if machine.environment.jetson_release else "tensorrt"


def _serves(requirement: Requirement) -> bool:
    return requirement.found is not None and not is_older(requirement.found, requirement.oldest)


def _list_stopped(requirement: Requirement, machine: Machine) -> tuple[str, ...]:
    """The commands that a library which is missing stops: all that need it, and where nothing else runs networks."""
    if not requirement.extra:
        return COMMANDS
    stopped = set(NEEDED_BY.get(requirement.name, ()))
    if requirement.name == "cuda-bindings" and machine.for_rtx:
        stopped.clear()  # engines are built ahead of time; only running one takes it
    runtimes = _list_runtimes(machine)
    stopped.update(name for name, ways in ONE_OF.items() if requirement.name in ways and not runtimes & set(ways))
    return tuple(command for command in COMMANDS if command in stopped)


def _list_runtimes(machine: Machine) -> set[str]:
    """The runtimes that can run a network here."""
    libraries = {requirement.name: _serves(requirement) for requirement in machine.requirements}
    found = {name for name in ("onnxruntime", "torch") if libraries.get(name)}
    builds = not _look_at_tensorrt(machine).remedy
    if builds and not _look_at_gpu(machine).remedy and libraries.get("cuda-bindings"):
        found.add("TensorRT")
    return found


def _look_at_tensorrt(machine: Machine) -> Diagnosis:
    version, needed = machine.tensorrt, f"{OLDEST_TENSORRT} or newer"
    if machine.environment.jetson_release:
        remedy = "sudo apt-get install python3-libnvinfer, of JetPack 6.1 or newer, and never pip install tensorrt"
    else:
        remedy = 'pip install "dualexport[tensorrt]"; to plan without a GPU scripts/install-cpu-tensorrt'
    if version is None:
        return Diagnosis("TensorRT", "not installed", needed, remedy, ("trt", "plan"))
    if machine.for_rtx:
        return Diagnosis("TensorRT", f"for RTX {version}", "any for RTX")
    if is_older(version, OLDEST_TENSORRT):
        return Diagnosis("TensorRT", version, needed, remedy, ("trt", "plan"))
    return Diagnosis("TensorRT", version, needed)


def _look_at_gpu(machine: Machine) -> Diagnosis:
    environment = machine.environment
    found = environment.gpu or (environment.machine if environment.jetson_release else None)
    if found is None:
        return Diagnosis("GPU", "none", "an NVIDIA GPU", NO_GPU, () if machine.for_rtx else ("trt",))
    return Diagnosis("GPU", found, "an NVIDIA GPU")


def _look_at_driver(machine: Machine) -> Diagnosis:
    environment, generation = machine.environment, machine.cuda_generation
    if environment.jetson_release:
        return Diagnosis("driver", f"L4T {environment.jetson_release}", "JetPack 6.1 or newer")
    oldest = OLDEST_DRIVER.get(generation or 0)
    needed = f"{oldest} or newer for CUDA {generation}" if oldest else "that of TensorRT's CUDA"
    if environment.gpu_driver is None:
        return Diagnosis("driver", "none", needed)
    if oldest and is_older(environment.gpu_driver, str(oldest)):
        return Diagnosis("driver", environment.gpu_driver, needed, "install a newer NVIDIA driver", ("trt",))
    return Diagnosis("driver", environment.gpu_driver, needed)


def _look_at_memory(machine: Machine) -> Diagnosis:
    free, needed = machine.free_memory_gb, f"{LEAST_MEMORY_GB:g} GB free to export size b"
    if free is None:
        return Diagnosis("memory", "not known", needed)
    remedy = "" if free >= LEAST_MEMORY_GB else "end other programs, or export a smaller size"
    return Diagnosis("memory", f"{free:.1f} GB free", needed, remedy)


def _look_at_decoder(name: str, decoders: frozenset[str]) -> Diagnosis:
    if name in decoders:
        return Diagnosis(f"decoder {name}", "here", "for videos of that format")
    return Diagnosis(f"decoder {name}", "missing", "for videos of that format", "pip install --force-reinstall av")


def _look_at_folder(machine: Machine) -> Diagnosis:
    needed = f"writable, {LEAST_DISK_GB:g} GB free"
    if machine.unwritable is not None:
        remedy = "work in another folder, or name one with --output"
        return Diagnosis("current folder", machine.unwritable, needed, remedy, ("onnx", "synth"))
    remedy = "" if machine.free_disk_gb >= LEAST_DISK_GB else "make room"
    return Diagnosis("current folder", f"writable, {machine.free_disk_gb:.1f} GB free", needed, remedy)
