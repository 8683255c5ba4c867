"""`dualexport verify`: every artifact against the PyTorch network, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import Reference, Runtime
from ..core.reporter import Reporter
from ..pipeline import parity
from ..pipeline.runners import skip_stale
from ..pipeline.verify import inputs
from ..pipeline.verify.document import choose_fix, combine_documents
from ..pipeline.verify.folder import Verified, VerifyOptions, verify_folder
from ..pipeline.verify.spread import Spread
from ..report.document import to_mapping
from ..report.tables import outline
from ..report.write import RENDERERS, write_reports
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
            help="The PyTorch network; where there is no PyTorch, the FP32 ONNX file, the outputs in a bundle, or the "
            "logits that the last run with PyTorch stored."
        ),
    ] = Reference.TORCH,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    limits: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Limits by precision; see docs/verify.md for the defaults.")
    ] = None,
    tolerance: LogitTolerance = None,
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
    if runtime is Runtime.TORCH:
        raise typer.BadParameter("the PyTorch network is what artifacts are compared with", param_hint="--runtime")
    if reference is Reference.EXPECTED and clips is not None:
        raise typer.BadParameter("expected outputs are those of the bundle's own clips: leave --clips out")
    if clips is None and (workers or ray or reference is Reference.STORED):
        raise typer.BadParameter("--workers, --ray and --reference stored are for videos: give --clips")
    if ray and ray not in ("auto", "local") and ":" not in ray:
        raise typer.BadParameter(f"{ray} is no address: give HOST:PORT, or auto", param_hint="--ray")
    from ..verification.limits import read_limits

    for path in report or ():
        if path.suffix.lower() not in RENDERERS:
            raise typer.BadParameter(f"{path.name} ends in none of {', '.join(RENDERERS)}", param_hint="--report")
    read_limits(limits)  # what is wrong with it is said before any work
    options = VerifyOptions(
        clips=clips,
        labels=labels,
        views=views,
        skip_unreadable=skip_unreadable,
        reference=reference,
        checkpoint=checkpoint,
        limits=limits,
        tolerance=tolerance,
        spread=Spread(workers, ray),
        layers=layers,
        bisect=bisect,
        plan=plan,
        pictures=any(path.suffix.lower().startswith(".htm") for path in report or ()),
    )
    subjects = [
        (manifest, inputs.select_artifacts(manifest, against, runtime, reference))
        for manifest in inputs.find_networks(folders)
    ]
    if against == "all":
        subjects = [(manifest, skip_stale(artifacts, console.note)) for manifest, artifacts in subjects]
    with console.show_progress() as progress:
        verified = [verify_folder(manifest, artifacts, options, progress) for manifest, artifacts in subjects]
    _note(verified)
    document = combine_documents([one.document for one in verified])
    write_reports(document, report or (), junit)
    if as_json:
        console.print_json(to_mapping(document))
    else:
        console.print_parts(outline(document))
    for one in verified:
        name = "the PyTorch network" if reference is Reference.TORCH else one.comparison.reference
        parity.require_parity(one.comparison.reports, name, choose_fix(one.document))


def _note(verified: Sequence[Verified]) -> None:
    """Say once what a user might overlook, where it is the same for all folders."""
    own = next((one for one in verified if not one.own_clips), None)
    if own is not None:
        parity.note_clips(own.clips, Reporter(note=console.note))
