"""The sections of a verification's document beside the comparison: environment, latency, blocks, plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ...core.choices import Graph
from ...core.errors import GraphError, RunnerError
from ...core.extras import needing_extra
from ...core.manifest import Manifest
from ...core.plain import to_plain
from ...core.reporter import Reporter
from ...core.types import Artifact, Clip
from ...report.bench import Latency, Scalar
from ...report.document import Bisection, BlockErrors, Plan
from ..latency import read_latency

if TYPE_CHECKING:
    from ...runtimes.plans.plan import EnginePlan
    from ...verification.blocks import LayerReport

LAYER_CLIPS = 4  # on which blocks are compared; an error shows on one


@dataclass(frozen=True, slots=True)
class Evidence:
    """The artifacts that are compared, the clips they are compared on, and the checkpoint's place."""

    manifest: Manifest
    artifacts: Sequence[Artifact]
    clips: Iterable[Clip]
    checkpoint: Path | None


@dataclass(frozen=True, slots=True)
class Sections:
    """The parts of the document beside the comparison; None for what was not asked for or is not known."""

    environment: dict[str, Scalar]
    latency: Latency | None
    layers: tuple[BlockErrors, ...] | None = None
    plans: tuple[Plan, ...] | None = None
    bisection: tuple[Bisection, ...] | None = None


def gather_sections(evidence: Evidence, reporter: Reporter, *, plan: bool, layers: bool) -> Sections:
    """The sections that `plan` and `layers` ask for, and those that cost nothing."""
    from ...runtimes.machine.environment import read_environment

    latency = read_latency(evidence.manifest, reporter)
    if latency is not None:
        compared = {artifact.path.name for artifact in evidence.artifacts}
        verdicts = tuple(verdict for verdict in latency.verdicts if verdict.artifact in compared)
        latency = msgspec.structs.replace(latency, verdicts=verdicts)
    return Sections(
        environment=asdict(read_environment()),
        latency=latency,
        layers=tuple(map(_document_blocks, compare_layers(evidence, reporter))) if layers else None,
        plans=tuple(_plan_artifacts(evidence.artifacts, reporter)) if plan else None,
    )


def compare_layers(evidence: Evidence, reporter: Reporter) -> tuple[LayerReport, ...]:
    """Compare the blocks of every ONNX artifact with the PyTorch network's, on the first clips."""
    with needing_extra("verify --layers"):
        from ...exporter.block_taps import BlockTaps
        from ...exporter.loading import restore_network
        from ...runtimes.tapped_graph import TappedGraph
        from ...verification.blocks import compare_blocks

    network = restore_network(evidence.manifest, evidence.checkpoint)
    reports: list[LayerReport] = []
    for form in Graph:
        chosen = [one for one in evidence.artifacts if one.format == "onnx" and one.graph is form]
        if not chosen:
            continue
        taps, graphs = BlockTaps(network, form), {}
        for artifact in chosen:
            try:
                graphs[artifact.path.name] = (TappedGraph(artifact.path, taps.tensors), artifact.precision)
            except (RunnerError, GraphError) as error:
                reporter.note(f"blocks are not compared: {error}")
        reports += compare_blocks(graphs, taps.run, islice(copy(evidence.clips), LAYER_CLIPS), reporter)
    return tuple(reports)


def _document_blocks(report: LayerReport) -> BlockErrors:
    return msgspec.convert(to_plain({**asdict(report), "remark": report.remark}), BlockErrors)


def _plan_artifacts(artifacts: Sequence[Artifact], reporter: Reporter) -> Iterator[Plan]:
    from ..plan import plan_onnx

    for artifact in artifacts:
        if artifact.format == "onnx":
            yield _document_plan(plan_onnx(artifact.path, progress=reporter))


def _document_plan(plan: EnginePlan) -> Plan:
    moved: dict[str, float] = {}
    for layer in plan.layers:
        moved[layer.kind.value] = moved.get(layer.kind.value, 0.0) + layer.moved_bytes / 1e6
    return msgspec.convert({**to_plain(plan.document()), "moved_mb_by_kind": moved}, Plan)
