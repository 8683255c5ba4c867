"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Views = Annotated[int, typer.Option(min=1, max=MOST_VIEWS, help="Views of each video, evenly placed in time.")]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without videos that do not decode.")]
LogitTolerance = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1e6, help="Largest logit difference to pass. Default: 1e-3 in fp32, 0.1 in fp16, any in int8."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
CudaGraph = Annotated[
    bool,
    typer.Option("--cuda-graph", help="With TensorRT: launch all kernels as one CUDA graph."),
]
