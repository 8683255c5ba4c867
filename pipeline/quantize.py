"""From the folded graphs of an exported network to its INT8 graph: what `int8`, `onnx` and `trt` share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Graph, Method, Precision
from ..core.errors import QuantizationError
from ..core.files import hash_file, staged_set
from ..core.reporter import Reporter
from ..core.types import Artifact, Clip
from . import parity
from .runners import open_artifact

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..calibration.linear_layers import LinearLayer
    from ..core.manifest import Manifest
    from ..verification.tally import ComparisonReport

FEW_CLIPS = 64
USUAL_CLIPS = 500
PROOF_CLIPS = 4


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """`base` is what stays unquantized: FP16 for GPUs, FP32 for CPUs. `keep` are patterns of layers left in it.

    `method` None is percentile, or that of the stored calibration where no clips are given.
    """

    method: Method | None = None
    base: Precision = Precision.FP16
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantized:
    """The INT8 file, the calibration behind it, the layers kept, and how close it comes to the FP32 graph on clips.

    `work_shares` are the shares of the graph's multiply-accumulates by precision.
    """

    artifact: Artifact
    calibration: Calibration
    kept: tuple[str, ...]
    work_shares: dict[str, float]
    report: ComparisonReport | None
    reused: bool


def quantize_network(
    manifest: Manifest, clips: Iterable[Clip] | None, options: QuantizeOptions, reporter: Reporter
) -> Quantized:
    """Write the INT8 graph of `manifest`'s network, with its calibration and its entry in the manifest.

    Ranges are measured on `clips`, unless the calibration that lies there was measured on the same clips and graph;
    without clips that one is used. All files appear, or none. Raises QuantizationError when there is neither, when
    the calibration is of another graph, or for a graph that cannot be quantized.
    """
    from ..calibration.linear_layers import find_layers, match_layers
    from ..graphs.load import load_graph

    reference = find_folded(manifest, Precision.FP32)
    base = find_folded(manifest, options.base)
    reporter("reading the graphs")
    layers = find_layers(load_graph(reference.path))
    kept = match_layers(layers, options.keep)
    calibration = reuse_calibration(manifest, reference, clips, options.method)
    reused = calibration is not None
    if calibration is None:
        assert clips is not None
        calibration = measure(reference, layers, clips, options.method or Method.PERCENTILE, reporter)
    return _write(manifest, base, calibration, kept, reused, clips, reporter)


def quantize_on_videos(
    manifest: Manifest, clips: Path, reporter: Reporter, *, views: int = 1, skip_unreadable: bool = False
) -> Quantized:
    """`quantize_network` by the defaults, calibrated on what `clips` names."""
    from ..clips.source import ClipSource

    source = ClipSource(
        clips, manifest.preprocessing, views=views, skip_unreadable=skip_unreadable, max_clips=USUAL_CLIPS
    )
    return quantize_network(manifest, source, QuantizeOptions(), reporter)


def find_folded(manifest: Manifest, precision: Precision) -> Artifact:
    """The folded ONNX file in `precision`, unchanged since it was written; raises QuantizationError without one."""
    from ..core.manifest import check_artifact

    exported = [file for file in manifest.artifacts if file.format == "onnx" and file.precision is precision]
    artifact = next((file for file in exported if file.graph is Graph.FOLDED), None)
    if artifact is None:
        found = "only a plain one" if exported else "none"
        raise QuantizationError(
            f"INT8 is made from the folded {precision.value} graph, {manifest.path} lists {found}",
            fix="run `dualexport onnx --graph folded`, which writes FP32 and FP16",
        )
    check_artifact(artifact)
    return artifact


def reuse_calibration(
    manifest: Manifest, reference: Artifact, clips: Iterable[Clip] | None, method: Method | None
) -> Calibration | None:
    """The calibration in the manifest's folder if it is of this graph, and, where clips are given, of these.

    Without clips it has to be there, of this graph and by this method, if one is asked for: raises QuantizationError.
    """
    from ..calibration.calibrate import read_calibration
    from ..calibration.observe import record_clip
    from ..calibration.stored import FILE_NAME

    path = manifest.folder / FILE_NAME
    if clips is None and not path.exists():
        raise QuantizationError(
            "INT8 needs clips to measure ranges on; made-up data would measure nothing",
            fix=f"give --clips: about {USUAL_CLIPS} videos like those that the network will see",
        )
    if not path.exists():
        return None
    calibration = read_calibration(manifest.folder)
    if clips is None:
        if calibration.graph != reference.sha256:
            raise QuantizationError(
                f"{path} was measured on another graph ({calibration.graph[:12]}, this one is {reference.sha256[:12]})",
                fix="give --clips to calibrate this graph",
            )
        if method is not None and method is not calibration.method:
            raise QuantizationError(
                f"{path} holds ranges by {calibration.method.value}, not by {method.value}",
                fix=f"give --clips to measure ranges by {method.value}, or leave --method out",
            )
        return calibration
    if (calibration.graph, calibration.method) != (reference.sha256, method or Method.PERCENTILE):
        return None
    return calibration if tuple(record_clip(clip) for clip in clips) == calibration.clips else None


def measure(
    reference: Artifact, layers: tuple[LinearLayer, ...], clips: Iterable[Clip], method: Method, reporter: Reporter
) -> Calibration:
    """Run the FP32 graph on `clips` and choose ranges and INT8 weights."""
    import onnx

    from ..calibration.calibrate import calibrate
    from ..calibration.observe import make_observable
    from ..graphs.load import load_graph
    from ..runtimes.onnx_runner import OnnxRunner

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observable.onnx"
        onnx.save(make_observable(load_graph(reference.path), layers), path)
        with OnnxRunner(path, spinning=False) as runner:
            calibration = calibrate(runner, reference.sha256, layers, clips, method, reporter)
    if len(calibration.clips) < FEW_CLIPS:
        reporter.note(f"calibrated on {len(calibration.clips)} clips; about {USUAL_CLIPS} are usual")
    return calibration


def name_int8(manifest: Manifest, base: Precision) -> str:
    """`dualformer-b.int8.onnx` for GPUs; `dualformer-b.int8-fp32.onnx`, whose rest is FP32, for CPUs."""
    return f"{manifest.name}.int8{'' if base is Precision.FP16 else '-fp32'}.onnx"


def _write(
    manifest: Manifest,
    base: Artifact,
    calibration: Calibration,
    kept: frozenset[str],
    reused: bool,
    clips: Iterable[Clip] | None,
    reporter: Reporter,
) -> Quantized:
    import onnx

    from ..calibration.calibrate import require_fit, write_calibration
    from ..calibration.linear_layers import find_layers
    from ..calibration.qdq import quantize_graph
    from ..calibration.stored import FILE_NAME, WEIGHTS_NAME
    from ..core.manifest import add_artifacts, tool_versions
    from ..graphs.load import load_graph
    from ..graphs.work import read_graph_work

    final = manifest.folder / name_int8(manifest, base.precision)
    with staged_set(manifest.folder) as staging:
        path = staging.path(final.name)
        reporter("writing the INT8 graph")
        model = load_graph(base.path)
        layers = find_layers(model)
        require_fit(calibration, layers)
        model = quantize_graph(model, layers, calibration, kept)
        onnx.save(model, path)
        onnx.checker.check_model(path, full_check=True)
        write_calibration(calibration, staging.path(FILE_NAME), staging.path(WEIGHTS_NAME))
        artifact = Artifact(
            format="onnx",
            precision=Precision.INT8,
            graph=Graph.FOLDED,
            path=path,
            sha256=hash_file(path),
            inputs=base.inputs,
            outputs=base.outputs,
            parent=base.sha256,
            options={
                "opset": base.options.get("opset", 0),
                "nodes": len(model.graph.node),
                "base": base.precision.value,
                "method": calibration.method.value,
                "clips": len(calibration.clips),
                "kept": ",".join(sorted(kept)),
            },
        )
        report = _prove(manifest, artifact, final.name, clips, reporter) if clips is not None else None
        shares = read_graph_work(path).shares
        artifact = replace(artifact, path=final)
        add_artifacts(staging, replace(manifest, tools=tool_versions()), (artifact,))
    return Quantized(artifact, calibration, tuple(sorted(kept)), shares, report, reused)


def _prove(
    manifest: Manifest, artifact: Artifact, name: str, clips: Iterable[Clip], reporter: Reporter
) -> ComparisonReport:
    """Hold the INT8 file against the FP32 graph on the first clips; raises ParityError when it is out of tolerance.

    A clip or two between classes says nothing of the share of all clips that agree, which `verify` measures.
    """
    from ..verification.limits import choose_defaults

    defaults = choose_defaults(selects_tokens=bool(manifest.selections))
    limits = {Precision.INT8: replace(defaults[Precision.INT8], top1_agreement=None)}
    with open_artifact(find_folded(manifest, Precision.FP32)) as reference:
        proof = parity.Proof(tuple(islice(clips, PROOF_CLIPS)))
        (report,) = parity.compare_with(reference, {name: artifact}, proof, limits, reporter)
        parity.require_parity((report,), reference.name)
    return report
