"""The file of a quantized network: written, compared with the FP32 file, and listed in the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Graph, Precision
from ..core.files import hash_file, staged_set
from ..core.manifest import Manifest, add_artifacts, tool_versions
from ..core.reporter import Reporter
from ..core.types import Artifact, Clip
from .calibrate import FoldedGraphs, quantize_file
from .parity import Proof, compare_with, require_parity
from .placement import Target, place_layers
from .runners import open_artifact

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..calibration.placement import Placement
    from ..verification.tally import ComparisonReport

PROOF_CLIPS = 4


@dataclass(frozen=True, slots=True)
class Work:
    """A graph to be made: of which graphs, with which scales and weights, and without which layers."""

    graphs: FoldedGraphs
    calibration: Calibration
    kept: frozenset[str]
    target: Target
    placement: Placement

    @property
    def unquantized(self) -> frozenset[str]:
        return frozenset(layer.name for layer in self.graphs.layers) - self.placement.layers

    def keep(self, kept: frozenset[str], reporter: Reporter) -> Work:
        """The same with these layers kept: those that are left in INT8 are placed again."""
        left = self.placement.layers - kept
        placement = place_layers(self.graphs.base, left, self.target, self.calibration.precision, reporter)
        return replace(self, kept=kept, placement=placement)


@dataclass(frozen=True, slots=True)
class Written:
    """The file, the shares of its multiply-accumulates by precision, and, where there were clips, its comparison."""

    artifact: Artifact
    work_shares: dict[str, float]
    report: ComparisonReport | None


def name_quantized(manifest: Manifest, precision: Precision, base: Precision) -> str:
    """`dualformer-b.int8.onnx` for GPUs; `dualformer-b.int8-fp32.onnx`, whose rest is FP32, for CPUs."""
    return f"{manifest.name}.{precision.value}{'' if base is Precision.FP16 else '-fp32'}.onnx"


def write_quantized(manifest: Manifest, work: Work, clips: Iterable[Clip] | None, reporter: Reporter) -> Written:
    """Write the file, compare it on a few clips, and list it; all files appear, or none."""
    import onnx

    from ..calibration.calibrate import write_calibration
    from ..calibration.stored import name_files
    from ..graphs.work import read_graph_work

    graphs, report = work.graphs, None
    precision = work.calibration.precision
    name = name_quantized(manifest, precision, graphs.base.precision)
    with staged_set(manifest.folder) as staging:
        path = staging.path(name)
        reporter(f"writing the {precision.value.upper()} graph")
        model = quantize_file(graphs.base, work.calibration, work.unquantized)
        onnx.save(model, path)
        onnx.checker.check_model(path, full_check=True)
        write_calibration(work.calibration, *map(staging.path, name_files(precision)))
        artifact = _describe(path, work, len(model.graph.node))
        if clips is not None:
            report = _prove(manifest, graphs.reference, artifact, clips, reporter)
        shares = read_graph_work(path).shares
        artifact = replace(artifact, path=manifest.folder / name)
        add_artifacts(staging, replace(manifest, tools=tool_versions()), (artifact,))
    return Written(artifact, shares, report)


def _describe(path: Path, work: Work, nodes: int) -> Artifact:
    base, calibration = work.graphs.base, work.calibration
    return Artifact(
        format="onnx",
        precision=calibration.precision,
        graph=Graph.FOLDED,
        path=path,
        sha256=hash_file(path),
        inputs=base.inputs,
        outputs=base.outputs,
        parent=base.sha256,
        options={
            "opset": base.options.get("opset", 0),
            "nodes": nodes,
            "base": base.precision.value,
            "method": calibration.method.value,
            "clips": len(calibration.clips),
            "place": work.target.name,
            **({} if work.placement.gpu is None else {"placed_on": work.placement.gpu}),
            "kept": ",".join(sorted(work.kept)),
        },
    )


def _prove(
    manifest: Manifest, expected: Artifact, artifact: Artifact, clips: Iterable[Clip], reporter: Reporter
) -> ComparisonReport:
    """Compare the file with the FP32 file on the first clips; raises ParityError when it is out of tolerance.

    A clip or two between classes says nothing of the share of all clips that agree, which `verify` measures.
    """
    from ..verification.limits import choose_defaults

    defaults = choose_defaults(selects_tokens=bool(manifest.selections))
    limits = {artifact.precision: replace(defaults[artifact.precision], top1_agreement=None)}
    proof = Proof(tuple(islice(clips, PROOF_CLIPS)))
    with open_artifact(expected) as reference:
        (report,) = compare_with(reference, {artifact.path.name: artifact}, proof, limits, reporter)
    require_parity((report,), expected.path.name)
    return report
