"""Arguments that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.reading import is_file, is_folder, is_there

MOST_VIEWS, MOST_BATCH, MOST_SEED = 1000, 1024, 2**32 - 1

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="Folder written by `dualexport onnx`. Default: the only one here."),
]
Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Folders written by `dualexport onnx`. Default: the only one here.",
    ),
]
Clips = Annotated[
    Path | None,
    typer.Option(
        metavar="SOURCE",
        help="Video, folder of videos or frame images, list of paths (.txt, .csv), or .npy/.npz clips. "
        "Without it: a generated moving pattern.",
    ),
]


def parse_batches(text: str) -> int | tuple[int, int]:
    """`4`, or `1-8` for any batch from 1 to 8."""
    least, dash, most = str(text).partition("-")
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in ((least, most) if dash else (least,))]
    if not all(1 <= number <= MOST_BATCH for number in numbers) or (dash and numbers[0] >= numbers[1]):
        raise typer.BadParameter(f"{text!r} is neither a number from 1 to {MOST_BATCH} nor a range like 1-8")
    return (numbers[0], numbers[1]) if dash else numbers[0]


Views = Annotated[int, typer.Option(min=1, max=MOST_VIEWS, help="Views of each video, evenly placed in time.")]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without videos that do not decode.")]
LogitTolerance = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1e6, help="Largest logit difference to pass. Default: 1e-3 in fp32, 0.1 in fp16, any in int8."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names, one a line, in order. Default: those given when it was exported."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
CudaGraph = Annotated[
    bool,
    typer.Option("--cuda-graph", help="With TensorRT: launch all kernels as one CUDA graph."),
]


def split_paths(paths: Sequence[Path | str], what: str) -> tuple[Path | None, str]:
    """The exported folder, None for the only one here, and the `what` that follows it on the command line."""
    if len(paths) > 2:
        raise typer.BadParameter(f"give a folder and a {what}, or a {what} alone", param_hint=f"[DIR] {what.upper()}")
    folder, source = Path(paths[0]) if len(paths) == 2 else None, str(paths[-1])
    is_export = is_file(Path(source) / "manifest.json")
    if folder is None and is_export:
        raise typer.BadParameter(f"{source} is an exported network: give a {what} after it")
    if folder is not None and is_there(folder) and not is_folder(folder):
        order = f"the folder comes first: {source} {folder}" if is_export else f"one {what} at a time"
        raise typer.BadParameter(f"{folder} is no exported folder: {order}")
    return folder, source
