"""`dualexport stream`: what a live source shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import Runtime
from ..core.extras import needing_extra
from ..pipeline import parity
from ..pipeline.runners import find_artifact, open_runner
from . import console
from .options import CudaGraph, Labels, split_paths

if TYPE_CHECKING:
    from ..pipeline.stream import Sighting

EPILOG = "Example:\n\ndualexport stream dualformer-demo videos/00000-moving-left.mp4"


def stream(
    paths: Annotated[
        list[str], typer.Argument(metavar="[DIR] SOURCE", help="Exported folder; a file, camera number or address.")
    ],
    labels: Labels = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Frames from one window to the next. Default: half a window."),
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help="What runs the network.")] = Runtime.ONNX,
    cuda_graph: CudaGraph = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="Seconds that a live source may deliver nothing.")
    ] = 10.0,
    retries: Annotated[
        int, typer.Option(min=0, max=1000, help="How often a source that broke off is opened again.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line on stdout.")] = False,
) -> None:
    """Classify a source as it goes on: a sliding window of its newest frames, one line a window.

    A camera of this machine is its number, one on a network its address (rtsp://camera/stream), a file its path.
    A live source is never waited for and never holds up: a window is always of the newest frames, and frames that no
    window looked at are counted as dropped. Of a file, none is. Ctrl-C ends it.
    """
    folder, source = split_paths(paths, "source")
    from ..clips.live import StreamOptions, require_source
    from ..core.manifest import find_manifest
    from ..pipeline.stream import stream as stream_windows

    require_source(source)
    manifest = find_manifest(folder)
    artifact = find_artifact(manifest, runtime)
    names, clip = parity.name_classes(manifest, labels), manifest.preprocessing
    options = StreamOptions(every or max(1, clip.frames * clip.stride // 2), timeout, retries)
    with needing_extra("stream"):
        opened = open_runner(artifact or manifest, runtime, cuda_graph=cuda_graph, notify=console.note)
    with opened as runner:
        try:
            for seen in stream_windows(runner, source, clip, options, names, notify=console.note):
                _print_sighting(seen, as_json=as_json)
        except KeyboardInterrupt:  # the usual end of a stream
            console.note("stopped")


def _print_sighting(seen: Sighting, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(seen)), flush=True)
    else:
        print(
            f"frame {seen.frame:>7}  {seen.label:<32} {seen.probability:>6.1%}  {seen.latency_ms:>7.0f} ms  "
            f"{seen.dropped} dropped",
            flush=True,
        )
