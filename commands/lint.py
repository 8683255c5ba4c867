"""`dualexport lint`: what a release of TensorRT would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.choices import TensorRTRelease
from ..pipeline.lint import lint as check
from . import console
from .options import Json

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
    releases = tuple(tensorrt or TensorRTRelease)
    findings = check(model, releases)
    result = {"model": model.name, "releases": releases, "findings": findings}
    console.show(result, _print_findings, as_json=as_json)
    if findings:
        raise typer.Exit(1)


def _print_findings(result: dict[str, Any]) -> None:
    """Two lines a finding, or one line that says there is none."""
    for finding in result["findings"]:
        operator = f" ({finding.operator})" if finding.operator else ""
        console.print_text(f"{finding.node}{operator}: {finding.problem} [{_name_releases(finding.releases)}]")
        console.print_text(f"  fix: {finding.fix}")
    if not result["findings"]:
        console.print_text(f"{result['model']}: nothing that {_name_releases(result['releases'])} would refuse")


def _name_releases(releases: Sequence[TensorRTRelease]) -> str:
    return f"TensorRT {', '.join(release.value for release in releases)}"
