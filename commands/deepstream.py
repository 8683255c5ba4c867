"""`dualexport deepstream`: an application folder for DeepStream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Precision
from ..pipeline.deepstream import DeepStreamApplication, DeepStreamOptions
from ..pipeline.deepstream import deepstream as write_application
from . import console
from .options import Folder, Json

EPILOG = "Example:\n\ndualexport deepstream dualformer-demo --output app"


def deepstream(
    folder: Folder = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="New folder of the application.")
    ] = Path("app"),
    cameras: Annotated[
        list[str] | None,
        typer.Option("--camera", metavar="URI", help="Once a camera or file. Default: two that application.txt names."),
    ] = None,
    frame: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the cameras' frames.")] = "1920x1080",
    every: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Frames from one clip of a camera to its next. Default: half a clip."),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Default: the FP16 file, else the FP32 file.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least probability of a class that is shown.")
    ] = 0.0,
    build_engine: Annotated[
        bool, typer.Option("--build", help="Build the engine here, with TensorRT 10. Default: DeepStream builds it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an application for DeepStream 9: an ONNX file of its own, configurations, labels and a README.

    Its sample application for action recognition runs them: clips of each camera's frames, a class a clip. The ONNX
    file gives probabilities and nothing else, which is what DeepStream's classifier reads.
    """
    width, _, height = frame.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"{frame!r} is not a size like 1920x1080", param_hint="--frame")
    given = {"cameras": tuple(cameras)} if cameras else {}
    options = DeepStreamOptions(
        frame=(int(width), int(height)),
        every=every,
        precision=precision,
        threshold=threshold,
        build_engine=build_engine,
        **given,
    )
    with console.show_progress() as reporter:
        written = write_application(folder, output, options, progress=reporter, notify=reporter.note)
    console.show(written, _print_application, as_json=as_json)


def _print_application(written: DeepStreamApplication) -> None:
    console.print_text(f"{written.folder}: {written.model.path.name} and its configurations")
    console.print_text(f"start it as {written.folder / 'README.md'} says")
