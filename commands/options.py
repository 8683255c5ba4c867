"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="What `dualexport onnx` wrote; found by itself when only one is here."),
]
Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="What `dualexport onnx` wrote, one folder or several; found by itself when only one is here.",
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
Views = Annotated[int, typer.Option(min=1, help="Views of each video, evenly placed in time.")]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without videos that do not decode.")]
LogitTolerance = Annotated[
    float | None,
    typer.Option(min=0.0, help="Largest logit difference to pass. Default: 1e-3 in fp32, 0.1 in fp16, 2 in int8."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
CudaGraph = Annotated[
    bool,
    typer.Option("--cuda-graph", help="With TensorRT: launch all kernels as one CUDA graph."),
]
