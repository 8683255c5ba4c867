"""Find the layers of an INT8 file that have to stay unquantized for it to hold its limits: `verify --bisect`."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING

import msgspec

from ...core.choices import Place, Precision
from ...core.errors import ManifestError, QuantizationError, RunnerError
from ...core.extras import needing_extra
from ...core.manifest import Manifest
from ...core.plain import to_plain
from ...core.reporter import Reporter
from ...core.runner import open_noting
from ...core.types import Artifact
from ...report.document import Bisection, Reached
from ..sensitivity import SENSITIVITY_CLIPS, open_graph
from .inputs import has_unknown_labels, open_reference

if TYPE_CHECKING:
    from ...calibration.restore import QuantizedGraph
    from ...runtimes.stored_runner import CachedRunner
    from ...verification.compare import Comparison
    from ...verification.limits import Limits
    from ...verification.tally import ComparisonReport
    from .job import VerifyJob
    from .sections import Evidence


@dataclass(frozen=True, slots=True)
class Found:
    """The layers of one file that have to be in `rest`, the precision around INT8, for it to hold its limits.

    `command` makes such a file, with the layers as `patterns`; `report` is what the file was found to reach with them.
    No layers, and no report, where none will do.
    """

    artifact: str
    rest: Precision
    graphs_tried: int
    layers: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    command: str = ""
    report: ComparisonReport | None = None

    @property
    def remark(self) -> str:
        """The result in a sentence."""
        rest = self.rest.value.upper()
        if self.report is None:
            return (
                f"{self.artifact} misses its limits even with every layer in {rest}: the error is not the "
                "quantization's, see --layers"
            )
        if not self.command:
            return f"{self.artifact} holds its limits with no layer left in INT8 only: use the {rest} file"
        return f"{self.artifact} holds its limits with {', '.join(self.patterns)} in {rest}"

    def document(self) -> Bisection:
        """The part of it that JSON and reports hold."""
        figures = {name: getattr(self.report, name) for name in Reached.__struct_fields__} if self.report else None
        reaches = msgspec.convert(to_plain(figures), Reached | None)
        return Bisection(
            self.artifact, self.remark, self.layers, self.patterns, self.command, self.graphs_tried, reaches
        )


def bisect_failures(
    job: VerifyJob, evidence: Evidence, comparison: Comparison, reporter: Reporter
) -> tuple[Bisection, ...]:
    """Bisect every INT8 graph that ran and misses a limit; what is not bisected is noted, with the reason."""
    reports = {report.artifact: report for report in comparison.reports if not report.passed}
    if not reports:
        reporter.note("nothing to bisect: every artifact holds its limits")
    found = []
    for artifact in job.artifacts:
        name = artifact.path.name
        if name not in reports:
            continue
        try:
            _require_bisectable(artifact, reports[name])
            with needing_extra("verify --bisect"):
                found.append(_bisect(artifact, job, evidence, reporter).document())
        except (QuantizationError, ManifestError, RunnerError) as error:
            reporter.note(f"{name} is not bisected: {error}; {error.fix}")
    return tuple(found)


def _require_bisectable(artifact: Artifact, report: ComparisonReport) -> None:
    if not artifact.precision.is_eight_bit:
        raise QuantizationError("bisecting is of INT8 and FP8", fix="see where its error enters with --layers")
    if artifact.format != "onnx":
        raise QuantizationError("bisecting is of graphs", fix="bisect the INT8 ONNX file that it was built from")
    if report.failure is not None:
        raise QuantizationError(f"it did not run ({report.failure})", fix="make it again with `dualexport int8`")


def _bisect(artifact: Artifact, job: VerifyJob, evidence: Evidence, reporter: Reporter) -> Found:
    """Look for whole blocks first, then for the layers of those that it takes."""
    from ...calibration.linear_layers import block_of
    from ...calibration.restore import rank_damage, read_quantized
    from ...calibration.search import find_smallest
    from ...runtimes.stored_runner import CachedRunner

    base = _find_base(artifact, evidence.manifest)
    graph = read_quantized(artifact.path, base.path)
    few = tuple(islice(copy(evidence.clips), SENSITIVITY_CLIPS))

    def narrow(groups: Sequence[frozenset[str]]) -> tuple[str, ...]:
        ranked = rank_damage(graph, groups, few, open_graph, reporter)
        found = find_smallest(ranked, lambda chosen: trials.passes(frozenset().union(*chosen)))
        return tuple(layer for layer in graph.layers if any(layer in group for group in found))

    reference = open_reference(job.manifest, job.checkpoint, job.reference)
    with open_noting(reference, reporter.note), CachedRunner(reference) as cached:
        trials = _Trials(artifact.path.name, graph, evidence, cached, job.limits[artifact.path.name], reporter)
        if not trials.passes(frozenset(graph.layers)):
            return Found(artifact.path.name, base.precision, len(trials.reports))
        layers = narrow([frozenset(block) for _, block in groupby(graph.layers, key=block_of)])
        layers = narrow([frozenset((layer,)) for layer in layers])
    patterns, command = _write_command(artifact, evidence.manifest, graph, layers)
    report = trials.reports[frozenset(layers)]
    return Found(artifact.path.name, base.precision, len(trials.reports), layers, patterns, command, report)


@dataclass(slots=True)
class _Trials:
    """Tries a file's graph with layers unquantized, on all clips; the reference computes in the first trial only."""

    name: str
    graph: QuantizedGraph
    evidence: Evidence
    reference: CachedRunner
    limits: Limits
    reporter: Reporter
    reports: dict[frozenset[str], ComparisonReport] = field(default_factory=dict)

    def passes(self, layers: frozenset[str]) -> bool:
        """True where the file holds its limits with these layers unquantized; with none it is known not to."""
        if layers and layers not in self.reports:
            self.reports[layers] = self._compare(layers)
        return bool(layers) and self.reports[layers].passed

    def _compare(self, layers: frozenset[str]) -> ComparisonReport:
        from ...verification.compare import Candidate, compare

        task = f"bisecting {self.name}: graph {len(self.reports) + 1}, {len(layers)} layers unquantized"
        manifest, clips = self.evidence.manifest, self.evidence.clips
        names = None if has_unknown_labels(manifest, clips) else manifest.labels
        with open_graph(self.graph.without(layers)) as runner:
            candidates = {self.name: Candidate(runner, self.limits)}
            compared = compare(
                self.reference, candidates, clips, names, lambda _, *counts: self.reporter(task, *counts)
            )
        return compared.reports[0]


def _find_base(artifact: Artifact, manifest: Manifest) -> Artifact:
    """The folded graph that the INT8 file was made from, unchanged."""
    from ...core.manifest import check_artifact

    for base in manifest.artifacts:
        if base.format == "onnx" and base.sha256 == artifact.parent:
            check_artifact(base)
            return base
    raise QuantizationError(
        f"{manifest.path} no longer lists the graph that it was made from", fix="make it again with `dualexport int8`"
    )


def _write_command(
    artifact: Artifact, manifest: Manifest, graph: QuantizedGraph, layers: Collection[str]
) -> tuple[tuple[str, ...], str]:
    """The patterns of `layers`, and the command that keeps them and what was kept before; "" where no layer is left."""
    from ...calibration.linear_layers import shorten_names

    unquantized = {layer.name for layer in graph.linear if layer.name not in graph.layers} | set(layers)
    is_free = artifact.options.get("place") == Place.FREE.value
    kept = {*str(artifact.options.get("kept", "")).split(","), *layers} if is_free else unquantized
    place = Place.FREE if is_free else Place.ALL
    command = ["dualexport", artifact.precision.value, str(manifest.folder), "--place", place.value]
    for pattern in shorten_names(graph.linear, kept):
        command += ["--keep-fp16", pattern]
    if artifact.options.get("base") == Precision.FP32.value:
        command += ["--base", Precision.FP32.value]
    return shorten_names(graph.linear, layers), shlex.join(command) if len(unquantized) < len(graph.linear) else ""
