"""`dualexport verify`: every artifact against the PyTorch network, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Decoder, Reference, Runtime
from . import console
from .options import Clips, Folders, Json, LogitTolerance, SkipUnreadable, Views

EPILOG = "Example:\n\ndualexport verify dualformer-*/ --clips videos/labels.csv --report report.html"


def verify(
    folders: Folders = None,
    clips: Clips = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Lines `path,label`, where the clips come without labels.")
    ] = None,
    views: Views = 1,
    against: Annotated[str, typer.Option(metavar="all|fp16,...", help="Which artifacts: precisions or files.")] = "all",
    runtime: Annotated[
        Runtime | None, typer.Option(help="Compare only what this runtime runs. Default: every file in DIR.")
    ] = None,
    reference: Annotated[
        Reference,
        typer.Option(
            help="The PyTorch network, also on the whole clip where it was exported for fewer frames; without PyTorch, "
            "the FP32 ONNX file, the outputs in a bundle, or the logits that the last run with PyTorch stored."
        ),
    ] = Reference.TORCH,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    limits: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Limits by precision; see docs/verify.md for the defaults.")
    ] = None,
    tolerance: LogitTolerance = None,
    decoder: Annotated[
        Decoder,
        typer.Option(help="What decodes and scales videos for the artifacts; the reference gets them as published."),
    ] = Decoder.FFMPEG,
    skip_unreadable: SkipUnreadable = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Spread the videos over N processes; with --ray, over N workers."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="Spread the videos over a Ray cluster; auto: the one here."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare block by block, on the first 4 clips: where an error enters.")
    ] = False,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect", help="Where an INT8 file misses a limit: the fewest layers that have to stay unquantized."
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Compile each file with the TensorRT here: memory traffic, for the report.")
    ] = False,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a report, .html, .md or .json; may be given several times."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML, a test case a limit.")] = None,
    as_json: Json = False,
) -> None:
    """Run the PyTorch network and every artifact in DIR on clips, and hold what they compute against limits.

    Of several folders, each is compared with its own network, one after the other. Without PyTorch, on a device, take
    --reference expected (the outputs that came in a bundle), stored (an earlier run's) or onnx.

    Exits with 1 when an artifact is out of a limit or did not run, naming the limit and the worst clip.
    """
    from ..pipeline.clips import Clips as ClipOptions
    from ..pipeline.verify.folder import VerifyOptions, find_conflict
    from ..pipeline.verify.folder import verify as verify_folders
    from ..report.document import to_mapping
    from ..report.tables import outline
    from ..report.write import RENDERERS

    options = VerifyOptions(
        against=against,
        runtime=runtime,
        reference=reference,
        checkpoint=checkpoint,
        limits=limits,
        tolerance=tolerance,
        decoder=decoder,
        workers=workers,
        ray=ray,
        layers=layers,
        bisect=bisect,
        plan=plan,
        reports=tuple(report or ()),
        junit=junit,
    )
    conflict = find_conflict(clips, options)
    if conflict is not None:
        raise typer.BadParameter(conflict)
    if labels is not None and clips is None:
        raise typer.BadParameter("--labels is of videos, and no clips were given: pass --clips too")
    for path in options.files[0]:
        if path.suffix.lower() not in RENDERERS:
            raise typer.BadParameter(f"{path.name} ends in none of {', '.join(RENDERERS)}", param_hint="--report")
    source = None if clips is None else ClipOptions(clips, views, skip_unreadable, labels=labels)
    with console.show_progress() as reporter:
        verified = verify_folders(folders or (), source, options, progress=reporter.progress, notify=reporter.note)
    if as_json:
        console.print_json(to_mapping(verified.document))
    else:
        console.print_parts(outline(verified.document))
    verified.require_passed()
