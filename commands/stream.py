"""`dualexport stream`: what a live source shows."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import Runtime
from ..core.extras import needing_extra
from ..core.types import Clip
from ..pipeline import parity
from ..pipeline.runners import choose_artifact, open_artifact, open_network
from . import console
from .options import CudaGraph

if TYPE_CHECKING:
    from ..clips.live import Window

EPILOG = "Example:\n\ndualexport stream dualformer-demo videos/00000-moving-left.mp4"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One line of the output. `latency_ms` is the time from the window's last frame being there to its class."""

    frame: int
    label: str
    probability: float
    latency_ms: float
    dropped: int


def stream(
    paths: Annotated[
        list[str], typer.Argument(metavar="[DIR] SOURCE", help="What was exported; a file, camera number or address.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names, one a line, in order. Default: those of the export."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Frames from one window to the next. Default: half a window.")
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
    if len(paths) > 2:
        raise typer.BadParameter("give a folder and a source, or a source alone", param_hint="[DIR] SOURCE")
    from ..clips.live import LiveWindows, StreamOptions, require_source
    from ..core.manifest import check_artifact, find_manifest
    from ..core.runner import infer_logits
    from ..verification.measures import softmax

    require_source(paths[-1])
    manifest = find_manifest(Path(paths[0]) if len(paths) == 2 else None)
    artifact = None if runtime is Runtime.TORCH else choose_artifact(manifest, runtime)
    if artifact is not None:
        check_artifact(artifact)
    names = parity.name_classes(manifest, labels)
    clip = manifest.preprocessing
    options = StreamOptions(every or max(1, clip.frames * clip.stride // 2), timeout, retries)
    with needing_extra("stream"):
        opened = open_artifact(artifact, cuda_graph=cuda_graph) if artifact else open_network(manifest)

    def classify(window: Window) -> Sighting:
        view = Clip(paths[-1], 0, window.frames, clip)
        probabilities = softmax(infer_logits(opened, [view]))[0]
        best = int(probabilities.argmax())
        latency_ms = (time.monotonic() - window.arrived) * 1e3
        return Sighting(window.end, names[best], float(probabilities[best]), latency_ms, window.dropped)

    with opened, LiveWindows(paths[-1], clip, options, console.note) as windows:
        try:
            for window in windows:
                _print_sighting(classify(window), as_json=as_json)
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
