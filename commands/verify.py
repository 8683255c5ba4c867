"""`dualexport verify`: every artifact against the PyTorch network, within limits."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from . import comparing, console, reports, steps
from .bisecting import bisect_failures
from .evidence import Evidence, gather_evidence
from .options import Clips, Folder, Json, LogitTolerance, SkipUnreadable, Views
from .running import Reference, Runtime
from .verify_document import document_verification
from .verify_tables import print_bisection, print_layers, print_verdicts, print_verification

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
            help="The PyTorch network; the FP32 ONNX file, where there is no PyTorch; or the outputs in a bundle."
        ),
    ] = Reference.TORCH,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    limits: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Limits by precision; see docs/verify.md for the defaults.")
    ] = None,
    tolerance: LogitTolerance = None,
    skip_unreadable: SkipUnreadable = False,
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

    Exits with 1 when an artifact is out of a limit or did not run, naming the limit and the worst clip.
    """
    if runtime is Runtime.TORCH:
        raise typer.BadParameter("the PyTorch network is what artifacts are compared with", param_hint="--runtime")
    if reference is Reference.EXPECTED and clips is not None:
        raise typer.BadParameter("expected outputs are those of the bundle's own clips: leave --clips out")
    from ..exporter.manifest import check_artifact, find_manifest
    from ..runtimes.compare import compare
    from ..runtimes.limits import read_limits

    reports.check_reports(report or ())
    allowed = read_limits(limits)
    manifest = find_manifest(folder)
    artifacts = comparing.select_artifacts(manifest, against, runtime, reference)
    with console.show_progress() as progress, ExitStack() as opened:
        progress("loading the reference")
        for artifact in artifacts:
            check_artifact(artifact)
        expected, own = comparing.open_reference(manifest, checkpoint, reference)
        opened.enter_context(expected)
        given = own if own is not None else steps.open_clips(clips, manifest.preprocessing, views, skip_unreadable)
        source = comparing.label_clips(given, labels)
        candidates = comparing.open_candidates(artifacts, allowed, tolerance, opened)
        names = comparing.list_class_names(manifest, source)
        comparison = compare(expected, candidates, source, names, progress)
        basis = Evidence(manifest, artifacts, source, checkpoint)
        parts = gather_evidence(basis, progress, plan=plan, layers=layers)
        parts["bisection"] = bisect_failures(basis, expected, candidates, comparison, progress) if bisect else None
        progress("writing the report")
        pictures = any(path.suffix.startswith(".htm") for path in report or ())
        document = document_verification(manifest, comparison, source, parts, pictures=pictures)
    if own is None:
        steps.note_clips(source)
    reports.write_reports(document, report or (), junit)
    if as_json:
        console.print_json(document)
    else:
        print_verification(comparison, manifest.labels)
        print_layers(parts["layers"] or ())
        print_bisection(parts["bisection"] or ())
        print_verdicts(parts["latency"])
    steps.require_parity(
        comparison.reports, expected.name if reference is not Reference.TORCH else "the PyTorch network"
    )
