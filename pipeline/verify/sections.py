"""What a verification shows beside the comparison: the environment, latencies, blocks, plans; None where not known."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.choices import Graph, Precision
from ...core.errors import RunnerError
from ...core.extras import needing_extra
from ...core.reporter import Reporter
from ...core.types import Artifact, Clip

if TYPE_CHECKING:
    from ...core.manifest import Manifest
    from ...runtimes.plans.plan import EnginePlan
    from ...verification.blocks import LayerReport

BENCH_FILE, BENCH_FORMAT = "bench.json", 1
LAYER_CLIPS = 4  # on which blocks are compared; an error shows on one


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is compared, on which clips, and where the checkpoint is."""

    manifest: Manifest
    artifacts: Sequence[Artifact]
    clips: Iterable[Clip]
    checkpoint: Path | None


def gather_evidence(evidence: Evidence, reporter: Reporter, *, plan: bool, layers: bool) -> dict[str, Any]:
    """The parts of the verification's document that `plan` and `layers` ask for, and those that cost nothing."""
    from ...runtimes.machine.environment import read_environment

    return {
        "environment": read_environment(),
        "latency": read_latency(evidence.manifest, reporter),
        "layers": [_document_layers(one) for one in compare_layers(evidence, reporter)] if layers else None,
        "plans": _plan_artifacts(evidence.artifacts, reporter) if plan else None,
    }


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
            except RunnerError as error:
                reporter.note(f"blocks are not compared: {error}")
        reports += compare_blocks(graphs, taps.run, islice(copy(evidence.clips), LAYER_CLIPS), reporter)
    return tuple(reports)


def _document_layers(report: LayerReport) -> dict[str, Any]:
    return {**asdict(report), "remark": report.remark}


def _plan_artifacts(artifacts: Sequence[Artifact], reporter: Reporter) -> list[dict[str, Any]]:
    from ..plan import plan_onnx

    return [_document_plan(plan_onnx(one.path, progress=reporter)) for one in artifacts if one.format == "onnx"]


def read_latency(manifest: Manifest, reporter: Reporter) -> dict[str, Any] | None:
    """What `dualexport bench` left beside the manifest of the files that are there now; None where nothing fits.

    `verdicts` say what it means for INT8.
    """
    from ..latency import judge_measured

    path = manifest.folder / BENCH_FILE
    if not path.is_file():
        return None
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
        hashes = {artifact.sha256 for artifact in manifest.artifacts}
        results = [result for result in measured["results"] if result["sha256"] in hashes]
        if measured["format"] > BENCH_FORMAT:
            raise ValueError(f"format {measured['format']}")
        verdicts = [asdict(verdict) for verdict in judge_measured(manifest.artifacts, measured)]
    except (ValueError, KeyError, TypeError) as error:
        reporter.note(f"{path} is left out, it is no measurement that can be read: {error}")
        return None
    return {**measured, "results": results, "verdicts": verdicts} if results else None


def read_verdicts(manifest: Manifest, hashes: Container[str], reporter: Reporter) -> list[dict[str, Any]]:
    """What `bench` measured of the INT8 graphs with these hashes, and of engines built from them."""
    latency = read_latency(manifest, reporter)
    graphs = {one.sha256 for one in manifest.artifacts if one.sha256 in hashes and one.precision is Precision.INT8}
    names = {one.path.name for one in manifest.artifacts if {one.sha256, one.parent} & graphs}
    return [verdict for verdict in (latency["verdicts"] if latency else ()) if verdict["artifact"] in names]


def _document_plan(plan: EnginePlan) -> dict[str, Any]:
    """A plan's figures, without its layers."""
    moved: dict[str, float] = {}
    for layer in plan.layers:
        moved[layer.kind.value] = moved.get(layer.kind.value, 0.0) + layer.moved_bytes / 1e6
    figures = {key: value for key, value in plan.document().items() if key not in ("layers", "movement", "heaviest")}
    return {**figures, "moved_mb_by_kind": moved}
