"""The JSON document of a verification: what `--json` prints, and what every report is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Clip
from . import steps

if TYPE_CHECKING:
    from ..exporter.manifest import Manifest
    from ..runtimes.compare import Comparison
    from ..runtimes.tally import ComparisonReport

FORMAT = 1  # of the document; raised when a reader of the former would misread it
FEW_VIDEOS = 30


def document_verification(
    manifest: Manifest, comparison: Comparison, clips: Iterable[Clip], parts: Mapping[str, Any], *, pictures: bool
) -> dict[str, Any]:
    """All that a verification found; `parts` are what else was measured, under the names that reports know.

    With pictures, the worst clips come with some of their frames.
    """
    from ..exporter.manifest import tool_versions

    artifacts = {artifact.path.name: artifact for artifact in manifest.artifacts}
    return {
        "format": FORMAT,
        "tools": tool_versions(),
        "passed": comparison.passed,
        "decision": _decide(manifest, comparison, clips),
        "network": {
            "name": manifest.name,
            "size": manifest.size,
            "classes": manifest.classes,
            "labels": manifest.labels,
            "random_weights": manifest.weights.are_random,
            "selections": [str(selection) for selection in manifest.selections],
        },
        "reference": {
            "name": comparison.reference,
            "clips": comparison.clips,
            "videos": comparison.videos,
            "labelled": comparison.labelled,
            "accuracy": comparison.accuracy,
        },
        "reports": _document_reports(comparison, artifacts, clips if pictures else ()),
        "skipped": steps.list_skipped(clips),
        **parts,
        "manifest": json.loads(manifest.path.read_text(encoding="utf-8")),
    }


def _document_reports(
    comparison: Comparison, artifacts: Mapping[str, Artifact], clips: Iterable[Clip]
) -> list[dict[str, Any]]:
    """Every artifact's report, its worst clips with their pictures."""
    from .thumbnails import draw_thumbnails

    wanted = {(clip.name, clip.view) for report in comparison.reports for clip in report.worst}
    pictures = draw_thumbnails(clips, wanted)
    documents = []
    for report in comparison.reports:
        document = _document_report(report, artifacts[report.artifact])
        for clip in document["worst"]:
            clip["thumbnail"] = pictures.get((clip["name"], clip["view"]))
        documents.append(document)
    return documents


def _document_report(report: ComparisonReport, artifact: Artifact) -> dict[str, Any]:
    return {
        **asdict(report),
        "passed": report.passed,
        "worst_clip": report.worst_clip,
        "precision": artifact.precision,
        "graph": artifact.graph,
        "format": artifact.format,
        "size_bytes": artifact.path.stat().st_size if artifact.path.is_file() else None,
        "sha256": artifact.sha256,
    }


def _decide(manifest: Manifest, comparison: Comparison, clips: Iterable[Clip]) -> dict[str, Any]:
    """Whether to ship, what speaks against it, and what the evidence does not cover."""
    against = [f"{report.artifact}: {reason}" for report in comparison.reports for reason in _list_reasons(report)]
    if manifest.weights.are_random:
        against.append("the weights are random: this is no trained network")
    caveats = []
    if isinstance(clips, tuple):
        caveats.append("compared on generated clips, not on videos of yours")
    if comparison.videos < FEW_VIDEOS:
        caveats.append(f"{comparison.videos} videos show gross errors only; accuracy takes hundreds")
    if not comparison.labelled:
        caveats.append("no labels: agreement with the reference was measured, accuracy was not")
    if len(comparison.reports) < len(manifest.artifacts):
        caveats.append(f"{len(manifest.artifacts) - len(comparison.reports)} artifacts of the manifest were left out")
    return {"ship": not against, "reasons": against, "caveats": caveats}


def _list_reasons(report: ComparisonReport) -> list[str]:
    failure = [] if report.failure is None else [f"did not run ({report.failure})"]
    return failure + [steps.describe_check(check) for check in report.failed_checks]
