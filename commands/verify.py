"""`dualexport verify`: every artifact against the PyTorch network, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import comparing, console, reports, spreading, steps
from .evidence import Evidence, gather_evidence
from .lineup import Lineup
from .options import Clips, Folder, Json, LogitTolerance, SkipUnreadable, Views
from .running import Reference, Runtime, limits_of
from .verify_document import document_verification
from .verify_tables import print_layers, print_verification

EPILOG = (
    "Example: dualexport verify dualformer-b --clips videos/labels.csv --views 4. "
    "On a device without PyTorch: dualexport verify dualformer-b --runtime tensorrt --reference expected"
)


def verify(
    folder: Folder = None,
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
        typer.Option(min=1, metavar="N", help="Spread the videos over N processes; with --ray, over N workers."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Spread the videos over a Ray cluster: without ADDRESS, the one here."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare block by block, on the first 4 clips: where an error enters.")
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

    Exits with 1 when an artifact is out of a limit or did not run, naming the limit and the worst clip.
    """
    if runtime is Runtime.TORCH:
        raise typer.BadParameter("the PyTorch network is what artifacts are compared with", param_hint="--runtime")
    if reference is Reference.EXPECTED and clips is not None:
        raise typer.BadParameter("expected outputs are those of the bundle's own clips: leave --clips out")
    if clips is None and (workers or ray or reference is Reference.STORED):
        raise typer.BadParameter("--workers, --ray and --reference stored are for videos: give --clips")
    if ray and ray not in ("auto", "local") and ":" not in ray:
        raise typer.BadParameter(f"{ray} is no address: put DIR before --ray, or give HOST:PORT", param_hint="--ray")
    from ..exporter.manifest import find_manifest
    from ..runtimes.limits import read_limits

    reports.check_reports(report or ())
    allowed = read_limits(limits)
    manifest = find_manifest(folder)
    artifacts = comparing.select_artifacts(manifest, against, runtime, reference)
    held = {artifact.path.name: limits_of(artifact, allowed, tolerance) for artifact in artifacts}
    with console.show_progress() as progress:
        given = steps.open_clips(clips, manifest.preprocessing, views, skip_unreadable)
        lineup = Lineup(manifest, artifacts, reference, checkpoint, held)
        spread = spreading.Spread(workers, ray)
        comparison, source = spreading.compare_lineup(lineup, comparing.label_clips(given, labels), spread, progress)
        ran = [artifact for artifact, one in zip(artifacts, comparison.reports, strict=True) if one.failure is None]
        basis = Evidence(manifest, ran, source, checkpoint)
        parts = gather_evidence(basis, progress, plan=plan, layers=layers)
        progress("writing the report")
        pictures = any(path.suffix.startswith(".htm") for path in report or ())
        document = document_verification(manifest, comparison, source, parts, pictures=pictures)
    if reference is not Reference.EXPECTED:
        steps.note_clips(source)
    reports.write_reports(document, report or (), junit)
    if as_json:
        console.print_json(document)
    else:
        print_verification(comparison, manifest.labels)
        print_layers(parts["layers"] or ())
    steps.require_parity(
        comparison.reports, comparison.reference if reference is not Reference.TORCH else "the PyTorch network"
    )
