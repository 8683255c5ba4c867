"""Examine this machine: what is installed, what each command needs of it, and what to do about it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement as PackageRequirement

from ..core.errors import DualExportError, OptionError
from ..core.versions import version_numbers
from ..runtimes.machine.diagnose import COMMANDS, Diagnosis, Machine, Requirement, diagnose
from ..runtimes.machine.environment import read_environment
from ..runtimes.machine.host import read_host
from ..runtimes.machine.jetson import examine_jetson, read_jetson
from ..runtimes.machine.memory import read_available_bytes
from ..runtimes.tensorrt.cuda import find_gpu

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[1] / "pyproject.toml"  # of a source tree
EXTRAS = ("export", "gpu", "ray")  # TensorRT itself, which may come otherwise, is looked at on its own
ALTERNATIVES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}  # distributions that install the same module


@dataclass(frozen=True, slots=True)
class Examination:
    """Every finding on this machine; of the `commands` asked about, those that could not work are `stopped`."""

    commands: tuple[str, ...]
    stopped: tuple[str, ...]
    findings: tuple[Diagnosis, ...]


def doctor(commands: Sequence[str] = (), *, jetson: bool = False) -> Examination:
    """Examine this machine for `commands`, by default all; raises OptionError for one that is none.

    With `jetson` the findings are what can fail on a Jetson, in that order, and go before the others.
    """
    for name in commands:
        if name not in COMMANDS:
            raise OptionError(f"{name!r} is no command that is examined", fix=f"say one of {', '.join(COMMANDS)}")
    asked = tuple(commands) or COMMANDS
    machine = read_machine()
    findings = (*diagnose(machine), _look_at_gstreamer())
    if jetson:
        state = read_jetson(read_host(), machine.environment, None if machine.for_rtx else machine.tensorrt)
        findings = (*examine_jetson(state), *findings)
    return Examination(asked, tuple(name for name in asked if any(name in one.stops for one in findings)), findings)


def _look_at_gstreamer() -> Diagnosis:
    """Optional: what `stream` decodes with where hardware is to do it."""
    from ..clips.gstreamer import APT, DESKTOP, JETSON, SOFTWARE, list_elements

    elements = list_elements()
    found = ", ".join(sorted(elements & (SOFTWARE | JETSON | DESKTOP | {"nvarguscamerasrc"}))) or "not installed"
    missing = ", ".join(sorted(SOFTWARE - elements))
    needed = "for stream --decoder gstreamer" + (f": {missing}" if elements and missing else "")
    return Diagnosis("GStreamer", found, needed, APT if missing else "")


def read_machine() -> Machine:
    """Read from this machine what is examined."""
    tensorrt, for_rtx = _read_tensorrt()
    available = read_available_bytes()
    return Machine(
        python=sys.version_info[:2],
        requirements=list_requirements(read_requirements()),
        tensorrt=tensorrt,
        for_rtx=for_rtx,
        cuda_generation=None if tensorrt is None or for_rtx else _guess_cuda(tensorrt),
        decoders=_list_decoders(),
        environment=read_environment(device=find_gpu()),
        free_memory_gb=None if available is None else available / 1e9,
        free_disk_gb=shutil.disk_usage(Path()).free / 1e9,
        unwritable=_try_to_write(),
    )


def read_requirements() -> list[str]:
    """The requirements of the installed package; in a source tree that was never installed, of its project file."""
    try:
        return requires("dualexport") or []
    except PackageNotFoundError:
        if not PROJECT.is_file():
            return []
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        return [*project["dependencies"], *(_mark(line, name) for name in extras for line in extras[name])]


def _mark(line: str, extra: str) -> str:
    """A requirement of an extra as an installed package has it."""
    name, _, marker = line.partition(";")
    return f'{name}; {f"({marker}) and " if marker else ""}extra == "{extra}"'


def list_requirements(lines: Sequence[str]) -> list[Requirement]:
    """The requirements that hold for this Python, without what only development needs."""
    found: dict[str, Requirement] = {}
    for line in lines:
        for requirement in _read_requirement(PackageRequirement(line)):
            found.setdefault(requirement.name, requirement)
    return list(found.values())


def _read_requirement(parsed: PackageRequirement) -> Iterator[Requirement]:
    for extra in ("", *EXTRAS):
        if parsed.marker is None or parsed.marker.evaluate({"extra": extra}):
            oldest = next((one.version for one in parsed.specifier if one.operator == ">="), "0")
            yield Requirement(parsed.name, oldest, extra, _read_version(parsed.name))
            return


def _read_version(distribution: str) -> str | None:
    for name in ALTERNATIVES.get(distribution, (distribution,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _read_tensorrt() -> tuple[str | None, bool]:
    """The version, and whether it is TensorRT for RTX."""
    try:
        from ..runtimes.tensorrt.library import is_for_rtx, library_version
    except (DualExportError, ImportError, OSError):  # OSError: its own libraries are missing
        return None, False
    return library_version(), is_for_rtx()


def _guess_cuda(tensorrt: str) -> int:
    """The CUDA generation that a TensorRT release comes for by default: 13 from 11.0 on, 12 before."""
    return 13 if version_numbers(tensorrt) >= (11,) else 12


def _list_decoders() -> frozenset[str]:
    try:
        from av.codec import codecs_available
    except ImportError:
        return frozenset()
    return frozenset(codecs_available)


def _try_to_write() -> str | None:
    """The reason why the current folder cannot be written; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=Path()):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"
