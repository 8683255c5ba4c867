"""The command line: which commands there are, and how an error ends one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from . import __version__
from .commands import bench, bundle, console, doctor, int8, lint, onnx, plan, predict, stream, synth, trt, verify
from .core.errors import DualExportError

app = typer.Typer(
    name="dualexport",
    help="Take a DualFormer video network from a PyTorch checkpoint to verified ONNX files and a TensorRT engine.",
    epilog="All of it, step by step: docs/tutorial.md. A first step:\n\ndualexport onnx --model demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _run, _epilog in (
    (onnx.onnx, onnx.EPILOG),
    (int8.int8, int8.EPILOG),
    (verify.verify, verify.EPILOG),
    (bench.bench, bench.EPILOG),
    (predict.predict, predict.EPILOG),
    (stream.stream, stream.EPILOG),
    (trt.trt, trt.EPILOG),
    (bundle.bundle, bundle.EPILOG),
    (plan.plan, plan.EPILOG),
    (lint.lint, lint.EPILOG),
    (synth.synth, synth.EPILOG),
    (doctor.doctor, doctor.EPILOG),
):
    app.command(epilog=_epilog)(_run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected error is two lines on stderr and exit code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(_complete([argument for argument in given if argument != "--debug"]), prog_name="dualexport")
    except DualExportError as error:
        if "--debug" in given:
            raise
        console.print_error(str(error), error.fix)
        sys.exit(1)


def _complete(arguments: Sequence[str]) -> list[str]:
    """`--ray` without an address looks for a cluster itself; Typer knows no option whose value may be left out."""
    following = [*arguments[1:], "-"]
    return [
        "--ray=auto" if argument == "--ray" and after.startswith("-") else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[  # noqa: ARG001  # main() reads it, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show an error's traceback; may stand anywhere.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
