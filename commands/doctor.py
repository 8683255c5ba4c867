"""`dualexport doctor`: what is installed, what is not, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from ..pipeline.doctor import Examination
from ..pipeline.doctor import doctor as examine
from . import console
from .options import Json

EPILOG = "Example:\n\ndualexport doctor --command onnx --command verify"


def doctor(
    command: Annotated[
        list[str] | None, typer.Option(help="Judge by this command only; may be repeated. Default: all.")
    ] = None,
    jetson: Annotated[
        bool, typer.Option("--jetson", help="Look at what can fail on a Jetson, too, in that order.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is installed and what is not, in versions, and what to do about it.

    Exits with 1 when a command of dualexport could not work here, naming it.
    """
    examination = examine(command or (), jetson=jetson)
    console.show(examination, _print_findings, as_json=as_json)
    if examination.stopped:
        raise typer.Exit(1)


def _print_findings(examination: Examination) -> None:
    """One line each; what stops an asked command is marked."""
    asked, stopped = examination.commands, examination.stopped
    rows = [
        (
            finding.subject,
            finding.found,
            finding.needed,
            "STOPS" if set(finding.stops) & set(asked) else "note" if finding.remedy else "ok",
            finding.remedy,
        )
        for finding in examination.findings
    ]
    console.print_table("What is here", ("subject", "found", "needed", "", "remedy"), rows)
    console.print_text(f"works here: {', '.join(name for name in asked if name not in stopped) or 'nothing'}")
    if stopped:
        console.print_text(f"cannot work here: {', '.join(stopped)}")
