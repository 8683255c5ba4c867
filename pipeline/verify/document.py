"""The JSON document of a verification: what `--json` prints, and what every report is made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.types import Artifact, Clip
from .. import parity
from .inputs import has_unknown_labels

if TYPE_CHECKING:
    from ...core.manifest import Manifest
    from ...verification.compare import Comparison
    from ...verification.tally import ComparisonReport

FORMAT = 1  # of the document; raised when a reader of the former would misread it
FEW_VIDEOS = 30


def document_verification(
    manifest: Manifest, comparison: Comparison, clips: Iterable[Clip], parts: Mapping[str, Any], *, pictures: bool
) -> dict[str, Any]:
    """All that a verification found; `parts` are what else was measured, under the names that reports know.

    With pictures, the worst clips come with some of their frames.
    """
    from ...core.manifest import tool_versions

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
            "accuracy_unknown": None if comparison.labelled else _explain_no_accuracy(manifest, clips),
        },
        "reports": _document_reports(comparison, artifacts, clips if pictures else ()),
        "skipped": parity.list_skipped(clips),
        **parts,
        "manifest": json.loads(manifest.path.read_text(encoding="utf-8")),
    }


def combine_documents(documents: Mapping[Path, Mapping[str, Any]]) -> Mapping[str, Any]:
    """One document of several verifications by folder: the decision over all, then each; a single one is itself."""
    if len(documents) == 1:
        return next(iter(documents.values()))
    return {
        "format": FORMAT,
        "passed": all(document["passed"] for document in documents.values()),
        "decision": _decide_over(documents.values()),
        "networks": [{"folder": folder, **document} for folder, document in documents.items()],
    }


def _decide_over(documents: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """To ship all networks, or why not; a line that all of them have stands there once, without a name."""
    found: dict[str, list[str]] = {}
    for kind in ("reasons", "caveats"):
        lines = [(document["network"]["name"], line) for document in documents for line in document["decision"][kind]]
        counts = Counter(line for _, line in lines)
        named = (
            line if counts[line] == len(documents) or line.startswith(name) else f"{name}: {line}"
            for name, line in lines
        )
        found[kind] = list(dict.fromkeys(named))
    return {"ship": all(document["decision"]["ship"] for document in documents), **found}


def _document_reports(
    comparison: Comparison, artifacts: Mapping[str, Artifact], clips: Iterable[Clip]
) -> list[dict[str, Any]]:
    """Every artifact's report, its worst clips with their pictures."""
    from ...clips.thumbnails import draw_thumbnails

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
        "work": _count_work(artifact) if artifact.path.is_file() else None,
        "size_bytes": artifact.path.stat().st_size if artifact.path.is_file() else None,
        "sha256": artifact.sha256,
    }


def _count_work(artifact: Artifact) -> dict[str, Any] | None:
    """Multiply-accumulates a clip that an ONNX file asks for, and their shares by precision."""
    if artifact.format != "onnx":
        return None
    from ...core.errors import GraphError, PlanError
    from ...graphs.work import read_graph_work

    try:
        work = read_graph_work(artifact.path)
    except (GraphError, PlanError):  # it did not run either, and its report says so
        return None
    return {"gmacs_a_clip": sum(work.macs.values()) / artifact.inputs[0].shape[0] / 1e9, "shares": work.shares}


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
        caveats.append(f"{_explain_no_accuracy(manifest, clips)}: agreement was measured, accuracy was not")
    if len(comparison.reports) < len(manifest.artifacts):
        caveats.append(f"{len(manifest.artifacts) - len(comparison.reports)} artifacts of the manifest were left out")
    return {"ship": not against, "reasons": against, "caveats": caveats}


def _explain_no_accuracy(manifest: Manifest, clips: Iterable[Clip]) -> str:
    if has_unknown_labels(manifest, clips):
        return "the labels are names, and the network was exported without class names"
    return "the clips have no labels"


def _list_reasons(report: ComparisonReport) -> list[str]:
    failure = [] if report.failure is None else [f"did not run ({report.failure})"]
    return failure + [parity.describe_check(check) for check in report.failed_checks]
