"""`dualexport predict`: the classes of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.choices import Runtime
from ..core.extras import needing_extra
from ..core.reporter import Reporter
from ..pipeline import parity
from ..pipeline.clips import Clips, note_skipped
from ..pipeline.runners import find_artifact, open_runner
from . import console
from .options import CudaGraph, Json, Labels, SkipUnreadable, Views, split_paths

EPILOG = "Example:\n\ndualexport predict dualformer-demo videos/00000-moving-left.mp4"


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[DIR] VIDEO", help="Exported folder; a video, a folder of videos or a list of them."),
    ],
    labels: Labels = None,
    views: Views = 4,
    runtime: Annotated[Runtime, typer.Option(help="What runs the network.")] = Runtime.ONNX,
    cuda_graph: CudaGraph = False,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Name the five most probable classes of a video, probabilities averaged over views."""
    folder, video = split_paths(paths, "video")
    from ..core.manifest import find_manifest
    from ..pipeline.classify import classify

    manifest = find_manifest(folder)
    artifact = find_artifact(manifest, runtime)
    names = parity.name_classes(manifest, labels)
    source = Clips(video, views, skip_unreadable).open(manifest.preprocessing)
    with needing_extra("predict"):
        opened = open_runner(artifact or manifest, runtime, cuda_graph=cuda_graph, notify=console.note)
    with console.show_progress() as progress, opened as runner:
        predictions = classify(runner, source, names, progress=progress)
    note_skipped(source, Reporter(note=console.note))
    name = artifact.path.name if artifact else opened.name
    result = {"artifact": name, "predictions": predictions, "skipped": source.skipped}
    console.show(result, _print_predictions, as_json=as_json)


def _print_predictions(result: dict[str, Any]) -> None:
    """One small table a video."""
    for prediction in result["predictions"]:
        rows = [(item.label, f"{item.probability:.1%}") for item in prediction.top]
        console.print_table(f"{prediction.video} ({prediction.views} views)", ("class", "probability"), rows)
