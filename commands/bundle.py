"""`dualexport bundle`: one file for a device."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Reference, Runtime
from ..core.errors import ManifestError, MissingDependencyError
from ..core.extras import needing_extra
from ..pipeline import parity
from ..pipeline.runners import choose_artifact, open_artifact, open_network
from . import console
from .options import Clips, Folder, Json

EPILOG = "Example:\n\ndualexport bundle dualformer-demo"
STORED_CLIPS = 2


def bundle(
    folder: Folder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: ./dualformer-SIZE.tar.gz")
    ] = None,
    clips: Clips = None,
    reference: Annotated[
        Reference, typer.Option(help="What computes the expected outputs: the PyTorch network, or the FP32 ONNX file.")
    ] = Reference.TORCH,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    as_json: Json = False,
) -> None:
    """Pack the ONNX files, the manifest and the expected outputs of two clips for a device.

    There, `dualexport trt FILE` unpacks them, builds the engine and compares it with the expected outputs.
    """
    if reference not in (Reference.TORCH, Reference.ONNX):
        raise typer.BadParameter("expected outputs are what a bundle makes", param_hint="--reference")
    from ..core.manifest import find_manifest
    from ..exporter.bundle import SUFFIXES, is_bundle, staged_bundle
    from ..runtimes.expected import FILE_NAME, write_expected

    manifest = find_manifest(folder)
    path = output or Path(f"{manifest.name}.tar.gz")
    if not is_bundle(path):
        raise typer.BadParameter(f"must end in {' or '.join(SUFFIXES)}", param_hint="--output")
    with console.show_progress() as progress, staged_bundle(manifest, path) as staging:
        progress("computing expected outputs")
        source = parity.open_clips(clips, manifest.preprocessing, 1, skip_unreadable=False, generated=STORED_CLIPS)
        try:
            with needing_extra("bundle"):
                network = (
                    open_network(manifest, checkpoint)
                    if reference is Reference.TORCH
                    else open_artifact(choose_artifact(manifest, Runtime.ONNX))
                )
        except (MissingDependencyError, ManifestError) as error:
            raise type(error)(str(error), fix=f"{error.fix}, or pass --reference onnx") from error
        with network:
            stored = write_expected(staging / FILE_NAME, network, islice(source, STORED_CLIPS))
        progress(f"packing {path.name}")
    summary = {
        "bundle": path,
        "size_bytes": path.stat().st_size,
        "expected_clips": stored,
        "reference": network.name,
    }
    if as_json:
        console.print_json(summary)
    else:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, expected outputs of {stored} clips by {network.name}")
        print(f"on the device: dualexport trt {path.name}")
