"""`dualexport lint`: what a release of TensorRT would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import TensorRTRelease
from . import console
from .options import Json

if TYPE_CHECKING:
    from ..graphs.lint import Finding

EPILOG = "Example:\n\ndualexport lint dualformer-demo/dualformer-demo.fp16.onnx"


def lint(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file.")],
    tensorrt: Annotated[
        list[TensorRTRelease] | None,
        typer.Option(help="Check for this release only; may be repeated. Default: all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that TensorRT can read a model, without TensorRT: operators, types, shapes, attributes, opset.

    Exits with 1 when it finds something, naming the node and what to do.
    """
    from ..graphs.lint import lint_onnx

    releases = tuple(tensorrt or TensorRTRelease)
    findings = lint_onnx(model, releases)
    if as_json:
        console.print_json({"model": model.name, "releases": releases, "findings": findings})
    else:
        _print_findings(model.name, releases, findings)
    if findings:
        raise typer.Exit(1)


def _print_findings(model: str, releases: Sequence[TensorRTRelease], findings: Sequence[Finding]) -> None:
    """Two lines a finding, or one line that says there is none."""
    for finding in findings:
        operator = f" ({finding.operator})" if finding.operator else ""
        print(f"{finding.node}{operator}: {finding.problem} [{_release_names(finding.releases)}]")
        print(f"  fix: {finding.fix}")
    if not findings:
        print(f"{model}: nothing that {_release_names(releases)} would refuse")


def _release_names(releases: Sequence[TensorRTRelease]) -> str:
    return f"TensorRT {', '.join(release.value for release in releases)}"
