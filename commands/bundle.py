"""`dualexport bundle`: one file for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Reference, Server
from ..pipeline.bundle import BundleOptions
from ..pipeline.bundle import bundle as make_bundle
from ..pipeline.clips import Clips as ClipsOf
from . import console
from .options import Clips, Folder, Json

EPILOG = "Example:\n\ndualexport bundle dualformer-demo"
ON_THE_DEVICE = {
    None: "trt {}",
    Server.TRITON: "trt {} --into models",
    Server.DEEPSTREAM: "deepstream {} --output app",
}


def bundle(
    folder: Folder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: ./dualformer-SIZE.tar.gz")
    ] = None,
    clips: Clips = None,
    reference: Annotated[
        Reference, typer.Option(help="Computes the expected outputs: torch, the PyTorch network; onnx, the FP32 file.")
    ] = Reference.TORCH,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    server: Annotated[
        Server | None,
        typer.Option("--for", help="Serves the network on the device: the README in the bundle says how."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack the ONNX files, the manifest and the expected outputs of two clips for a device.

    There, `dualexport trt FILE` unpacks them, builds the engine and compares it with the expected outputs.
    """
    source = ClipsOf(clips) if clips is not None else None
    with console.show_progress() as reporter:
        bundled = make_bundle(
            folder,
            output,
            source,
            BundleOptions(reference, checkpoint, server),
            progress=reporter.progress,
            notify=reporter.note,
        )
    if as_json:
        console.print_json(
            {
                "bundle": bundled.path,
                "size_bytes": bundled.size_bytes,
                "expected_clips": bundled.expected_clips,
                "reference": bundled.reference,
            }
        )
    else:
        size = f"{bundled.size_bytes / 1e6:.1f} MB"
        console.print_text(
            f"{bundled.path}: {size}, expected outputs of {bundled.expected_clips} clips by {bundled.reference}"
        )
        console.print_text(f"on the device: dualexport {ON_THE_DEVICE[server].format(bundled.path.name)}")
