"""`dualexport doctor`: what is installed, what is not, and what to do about it."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import DualExportError
from . import console
from .options import Json

if TYPE_CHECKING:
    from ..runtimes.machine.diagnose import Finding, Machine, Requirement

EPILOG = "Example:\n\ndualexport doctor --command onnx --command verify"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*>=\s*(?P<oldest>[\d.]+)[^;]*(?:;\s*(?P<marker>.*))?")
EXTRA = re.compile(r"extra\s*==\s*['\"](\w+)['\"]")


def doctor(
    command: Annotated[
        list[str] | None, typer.Option(help="Judge by this command only; may be repeated. Default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is installed and what is not, in versions, and what to do about it.

    Exits with 1 when a command of dualexport could not work here, naming it.
    """
    from ..runtimes.machine.diagnose import COMMANDS, diagnose

    unknown = [name for name in command or () if name not in COMMANDS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]}: say one of {', '.join(COMMANDS)}", param_hint="--command")
    findings = diagnose(read_machine())
    asked = tuple(command or COMMANDS)
    stopped = [name for name in asked if any(name in finding.stops for finding in findings)]
    if as_json:
        console.print_json({"commands": asked, "stopped": stopped, "findings": findings})
    else:
        _print_findings(findings, asked, stopped)
    if stopped:
        raise typer.Exit(1)


def read_machine() -> Machine:
    """What doctor examines, read from this machine."""
    from ..runtimes.machine.diagnose import Machine
    from ..runtimes.machine.environment import read_environment

    tensorrt, for_rtx = _read_tensorrt()
    memory = re.search(r"MemAvailable:\s+(\d+) kB", _read_text(Path("/proc/meminfo")))
    return Machine(
        python=sys.version_info[:2],
        requirements=list_requirements(requires("dualexport") or ()),
        tensorrt=tensorrt,
        for_rtx=for_rtx,
        cuda_generation=None if tensorrt is None or for_rtx else _guess_cuda(tensorrt),
        decoders=_list_decoders(),
        environment=read_environment(),
        free_memory_gb=int(memory[1]) / 1e6 if memory else None,
        free_disk_gb=shutil.disk_usage(Path()).free / 1e9,
        unwritable=_try_to_write(),
    )


def list_requirements(lines: Sequence[str]) -> list[Requirement]:
    """What the package's metadata asks for that runs on this Python, without what only its development needs."""
    from ..runtimes.machine.diagnose import Requirement

    found = []
    for line in lines:
        parsed = REQUIREMENT.match(line)
        if parsed is None:
            continue
        extra = EXTRA.search(parsed["marker"] or "")
        if "python_version" in (parsed["marker"] or "") or (extra and extra[1] == "dev"):
            continue
        name = parsed["name"]
        found.append(Requirement(name, parsed["oldest"], extra[1] if extra else "", _read_version(name)))
    return found


def _read_version(distribution: str) -> str | None:
    names = ("onnxruntime", "onnxruntime-gpu") if distribution == "onnxruntime" else (distribution,)
    for name in names:
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
    return 13 if int(tensorrt.partition(".")[0]) >= 11 else 12


def _list_decoders() -> frozenset[str]:
    try:
        from av.codec import codecs_available
    except ImportError:
        return frozenset()
    return frozenset(codecs_available)


def _try_to_write() -> str | None:
    try:
        with tempfile.TemporaryFile(dir=Path()):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _print_findings(findings: Sequence[Finding], asked: Sequence[str], stopped: Sequence[str]) -> None:
    """One line each; what stops an asked command is marked."""
    rows = [
        (
            finding.subject,
            finding.found,
            finding.needed,
            "STOPS" if set(finding.stops) & set(asked) else "note" if finding.remedy else "ok",
            finding.remedy,
        )
        for finding in findings
    ]
    console.print_table("What is here", ("subject", "found", "needed", "", "remedy"), rows)
    working = [name for name in asked if name not in stopped]
    print(f"works here: {', '.join(working) or 'nothing'}")
    if stopped:
        print(f"cannot work here: {', '.join(stopped)}")
