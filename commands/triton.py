"""`dualexport triton`: a model repository for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Precision, TritonBackend
from . import console
from .options import Folder, Json

EPILOG = "Example:\n\ndualexport triton dualformer-demo --output models"


def triton(
    folder: Folder = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder of the repository.")] = Path(
        "models"
    ),
    backend: Annotated[
        TritonBackend | None,
        typer.Option(help="Triton's backend for the network. Default: tensorrt where an engine is listed."),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Default: the narrowest engine, or the FP32 ONNX file.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Serve the file of this batch: so many views of a video.")
    ] = None,
    instances: Annotated[int, typer.Option(min=1, max=64, help="Copies of the network that run side by side.")] = 1,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="Processes that decode videos side by side.")] = 2,
    as_json: Json = False,
) -> None:
    """Write a model repository for Triton Inference Server.

    It holds the network, the model that makes clips of an encoded video, and an ensemble from a video's bytes to
    probabilities; a README with the commands that start it, and a small client.
    """
    from ..pipeline.serve import TritonOptions
    from ..pipeline.serve import triton as write_repository

    options = TritonOptions(backend, precision, batch, instances, decoders)
    written = write_repository(folder, output, options, notify=console.note)
    if as_json:
        console.print_json(
            {
                "repository": written.folder,
                "models": written.models,
                "artifact": written.artifact.path.name,
                "backend": written.backend,
            }
        )
    else:
        console.print_text(f"{written.folder}: {', '.join(written.models)}")
        console.print_text(
            f"the network is {written.artifact.path.name}, run by Triton's {written.backend.value} backend"
        )
        console.print_text(f"start it as {written.folder / 'README.md'} says")
