"""Makes the document of a verification from what was compared and measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from ...clips.synthetic import is_pattern
from ...core.choices import Decoder
from ...core.errors import GraphError, PlanError
from ...core.manifest import Manifest, tool_versions
from ...core.plain import to_plain
from ...core.types import Artifact, Clip
from ...report.document import (
    FORMAT,
    Accuracy,
    ArtifactReport,
    Decision,
    Document,
    Network,
    Reference,
    SkippedVideo,
    Verification,
    Work,
)
from ...verification.compare import Comparison
from ...verification.tally import ComparisonReport
from .. import parity
from ..clips import list_skipped
from ..spans import write_rules
from .inputs import has_unknown_labels
from .sections import Sections

FEW_VIDEOS = 30
EVEN_ERROR_FIX = (
    "no single block is to blame: use a more precise file, find INT8 layers to leave out with --bisect, or allow more "
    "with --limits"
)


def document_verification(
    manifest: Manifest, comparison: Comparison, clips: Iterable[Clip], sections: Sections, *, pictures: bool
) -> Verification:
    """All that one verification found; with pictures, the worst clips come with some of their frames."""
    return Verification(
        folder=str(manifest.folder),
        format=FORMAT,
        tools=tool_versions(),
        passed=comparison.passed,
        decision=_decide(manifest, comparison, clips),
        network=Network(
            name=manifest.name,
            size=manifest.size.value,
            classes=manifest.classes,
            labels=manifest.labels,
            random_weights=manifest.weights.are_random,
            selections=tuple(map(str, manifest.selections)),
        ),
        reference=_document_reference(manifest, comparison, clips),
        reports=_document_reports(manifest, comparison, clips if pictures else ()),
        skipped=tuple(SkippedVideo(one.name, one.reason) for one in list_skipped(clips)),
        environment=sections.environment,
        latency=sections.latency,
        layers=sections.layers,
        plans=sections.plans,
        bisection=sections.bisection,
        manifest=json.loads(manifest.path.read_text(encoding="utf-8")),
    )


def combine_documents(networks: Sequence[Verification]) -> Document:
    """The verifications of several networks, and the decision over all; that of a single one is its own."""
    return Document(tuple(networks), networks[0].decision if len(networks) == 1 else _decide_over(networks))


def choose_fix(network: Verification) -> str:
    """A way out for the first artifact that misses a limit: the cause, where one was found, else how to look for it."""
    failed = next((report.artifact for report in network.reports if not report.passed), None)
    layers = [one for one in network.layers or () if one.artifact == failed]
    found = [one.remark for one in layers if one.enters_at is not None]
    found += [one.remark for one in network.bisection or () if one.artifact == failed]
    return "; ".join(found) or (EVEN_ERROR_FIX if layers else parity.PARITY_FIX)


def _decide_over(networks: Sequence[Verification]) -> Decision:
    """To ship all networks, or why not; a line that all of them have stands there once, without a name."""
    reasons = [(one.network.name, line) for one in networks for line in one.decision.reasons]
    caveats = [(one.network.name, line) for one in networks for line in one.decision.caveats]
    ship = all(one.decision.ship for one in networks)
    return Decision(ship, _name_lines(reasons, len(networks)), _name_lines(caveats, len(networks)))


def _name_lines(lines: Sequence[tuple[str, str]], networks: int) -> tuple[str, ...]:
    """Each different line once, behind its network's name where not all networks have it."""
    counts = Counter(line for _, line in lines)
    named = (line if counts[line] == networks or line.startswith(name) else f"{name}: {line}" for name, line in lines)
    return tuple(dict.fromkeys(named))


def _document_reference(manifest: Manifest, comparison: Comparison, clips: Iterable[Clip]) -> Reference:
    return Reference(
        name=comparison.reference,
        clips=comparison.clips,
        videos=comparison.videos,
        labelled=comparison.labelled,
        accuracy=msgspec.convert(to_plain(comparison.accuracy), Accuracy | None),
        accuracy_unknown=None if comparison.labelled else _explain_no_accuracy(manifest, clips),
    )


def _document_reports(manifest: Manifest, comparison: Comparison, clips: Iterable[Clip]) -> tuple[ArtifactReport, ...]:
    """Every artifact's report, its worst clips with their pictures."""
    from ...clips.thumbnails import draw_thumbnails

    artifacts = {artifact.path.name: artifact for artifact in manifest.artifacts}
    wanted = {(clip.name, clip.view) for report in comparison.reports for clip in report.worst}
    pictures = draw_thumbnails(clips, wanted)
    return tuple(
        _document_report(report, artifacts[report.artifact], pictures, manifest.labels) for report in comparison.reports
    )


def _document_report(
    report: ComparisonReport, artifact: Artifact, pictures: Mapping[tuple[str, int], str], labels: Sequence[str]
) -> ArtifactReport:
    is_there = artifact.path.is_file()
    worst = [{**asdict(clip), "thumbnail": pictures.get((clip.name, clip.view))} for clip in report.worst]
    figures = {
        **asdict(report),
        "worst": worst,
        "passed": report.passed,
        "worst_clip": report.worst_clip,
        "precision": artifact.precision,
        "graph": artifact.graph,
        "format": artifact.format,
        "work": _count_work(artifact) if is_there else None,
        "size_bytes": artifact.path.stat().st_size if is_there else None,
        "sha256": artifact.sha256,
        "thresholds": _document_thresholds(report, labels),
    }
    return msgspec.convert(to_plain(figures), ArtifactReport)


def _document_thresholds(report: ComparisonReport, labels: Sequence[str]) -> dict[str, Any] | None:
    if not report.thresholds:
        return None
    suggested = {one.index: one.suggested for one in report.thresholds}
    return {"classes": report.thresholds, "toml": write_rules(suggested, labels)}


def _count_work(artifact: Artifact) -> Work | None:
    if artifact.format != "onnx":
        return None
    from ...graphs.work import read_graph_work

    try:
        work = read_graph_work(artifact.path)
    except (GraphError, PlanError):  # it did not run either, and its report says so
        return None
    gmacs = sum(work.macs.values()) / artifact.inputs[0].shape[0] / 1e9
    return Work(gmacs, work.shares)


def _decide(manifest: Manifest, comparison: Comparison, clips: Iterable[Clip]) -> Decision:
    """To ship or not: what speaks against it, and what the evidence does not cover."""
    against = [f"{report.artifact}: {reason}" for report in comparison.reports for reason in _list_reasons(report)]
    if manifest.weights.are_random:
        against.append("the weights are random: this is no trained network")
    caveats = []
    if isinstance(clips, tuple) and all(is_pattern(clip) for clip in clips):
        caveats.append("compared on generated clips, not on videos of yours")
    if getattr(clips, "decoder", None) is Decoder.GSTREAMER:
        caveats.append(
            "GStreamer decoded and scaled the clips for the artifacts, and the published preprocessing those for the "
            "reference: differences are of both, pixels and arithmetic"
        )
    if getattr(clips, "shown_frames", None) is not None:
        caveats.append(
            f"the reference saw the whole clip, the artifacts {manifest.preprocessing.frames} of its frames: "
            "differences are of both, frames and arithmetic"
        )
    if "PyTorch" not in comparison.reference:
        caveats.append(
            f"the reference ({comparison.reference}) is an exported file, not the trained network: an error in it "
            "stays unseen"
        )
    if comparison.videos < FEW_VIDEOS:
        caveats.append(f"{comparison.videos} videos show gross errors only; accuracy takes hundreds")
    if not comparison.labelled:
        caveats.append(f"{_explain_no_accuracy(manifest, clips)}: agreement was measured, accuracy was not")
    if len(comparison.reports) < len(manifest.artifacts):
        caveats.append(f"{len(manifest.artifacts) - len(comparison.reports)} artifacts of the manifest were left out")
    return Decision(not against, tuple(against), tuple(caveats))


def _explain_no_accuracy(manifest: Manifest, clips: Iterable[Clip]) -> str:
    if has_unknown_labels(manifest, clips):
        return "the labels are names, and the network was exported without class names"
    return "the clips have no labels"


def _list_reasons(report: ComparisonReport) -> list[str]:
    failure = [] if report.failure is None else [f"did not run ({report.failure})"]
    return failure + [parity.describe_check(check) for check in report.failed_checks]
