"""`dualexport verify`: every artifact against the PyTorch network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console, steps
from .options import Clips, Folder, Json, LogitTolerance, SkipUnreadable, Views

if TYPE_CHECKING:
    from ..runtimes.compare import ComparisonReport

EPILOG = "Example: dualexport verify dualformer-b --clips videos/"


def verify(
    folder: Folder = None,
    clips: Clips = None,
    views: Views = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = None,
    as_json: Json = False,
) -> None:
    """Run the PyTorch network and every artifact in DIR on clips, and compare their logits.

    Exits with 1 when an artifact is out of tolerance, naming its worst clip.
    """
    with steps.needing_extra("verify"):
        from ..exporter.loading import restore_network
    from ..exporter.manifest import check_artifact, find_manifest

    manifest = find_manifest(folder)
    source = steps.open_clips(clips, manifest.preprocessing, views, skip_unreadable)
    with console.show_progress() as progress:
        progress("loading the weights")
        for artifact in manifest.artifacts:
            check_artifact(artifact)
        network = restore_network(manifest, checkpoint)
        artifacts = {artifact.path.name: artifact for artifact in manifest.artifacts}
        reports = steps.compare_artifacts(network, artifacts, steps.Proof(source, tolerance), progress)
    steps.note_clips(source)
    if as_json:
        console.print_json(
            {
                "passed": all(report.passed for report in reports),
                "reports": reports,
                "skipped": steps.list_skipped(source),
            }
        )
    else:
        _print_comparison(reports)
    steps.require_parity(reports)


def _print_comparison(reports: Sequence[ComparisonReport]) -> None:
    """One row an artifact."""
    columns = ("artifact", "clips", "top-1 agreement", "largest diff", "mean diff", "cosine", "result")
    rows = [
        (
            report.artifact,
            str(report.clips),
            f"{report.top1_agreement:.1%}",
            f"{report.largest_difference:.1e}",
            f"{report.mean_difference:.1e}",
            f"{report.cosine:.6f}",
            "PASS" if report.passed else "FAIL",
        )
        for report in reports
    ]
    console.print_table("Logits against the PyTorch network (FP32)", columns, rows)
