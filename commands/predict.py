"""`dualexport predict`: the classes of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import Runtime
from ..core.extras import needing_extra
from ..core.reporter import Reporter
from ..pipeline import parity
from ..pipeline.runners import choose_artifact, open_artifact, open_network
from . import console
from .options import CudaGraph, Json, SkipUnreadable, Views

if TYPE_CHECKING:
    from ..pipeline.classify import Prediction

EPILOG = "Example:\n\ndualexport predict dualformer-demo videos/00000-moving-left.mp4"


def predict(
    paths: Annotated[
        list[Path], typer.Argument(metavar="[DIR] VIDEO", help="What was exported, and what to classify.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Class names, one a line, in order. Default: those given when it was exported."
        ),
    ] = None,
    views: Views = 4,
    runtime: Annotated[Runtime, typer.Option(help="What runs the network.")] = Runtime.ONNX,
    cuda_graph: CudaGraph = False,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Name the five most probable classes of a video, probabilities averaged over views."""
    if len(paths) > 2:
        raise typer.BadParameter("give a folder and a video, or a video alone", param_hint="[DIR] VIDEO")
    from ..core.manifest import check_artifact, find_manifest
    from ..pipeline.classify import predict_videos

    manifest = find_manifest(paths[0] if len(paths) == 2 else None)
    artifact = None if runtime is Runtime.TORCH else choose_artifact(manifest, runtime)
    if artifact is not None:
        check_artifact(artifact)
    names = parity.name_classes(manifest, labels)
    source = parity.open_clips(paths[-1], manifest.preprocessing, views, skip_unreadable)
    with needing_extra("predict"):
        opened = open_artifact(artifact, cuda_graph=cuda_graph) if artifact else open_network(manifest)
    with console.show_progress() as progress, opened as runner:
        progress("classifying")
        predictions = tuple(predict_videos(runner, source, names))
    parity.note_clips(source, Reporter(note=console.note))
    name = artifact.path.name if artifact else opened.name
    if as_json:
        console.print_json({"artifact": name, "predictions": predictions, "skipped": parity.list_skipped(source)})
    else:
        _print_predictions(predictions)


def _print_predictions(predictions: Sequence[Prediction]) -> None:
    """One small table a video."""
    for prediction in predictions:
        rows = [(item.label, f"{item.probability:.1%}") for item in prediction.top]
        console.print_table(f"{prediction.video} ({prediction.views} views)", ("class", "probability"), rows)
