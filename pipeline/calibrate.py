"""The folded graphs of an exported network, and the calibration of one: the stored one, or a new one on clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.choices import Graph, Method, Precision
from ..core.errors import QuantizationError
from ..core.manifest import Manifest, check_artifact
from ..core.reporter import Reporter
from ..core.types import Artifact, Clip
from .sensitivity import open_graph

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..calibration.calibrate import Calibration
    from ..calibration.linear_layers import LinearLayer

FEW_CLIPS = 64
USUAL_CLIPS = 500


@dataclass(frozen=True, slots=True)
class FoldedGraphs:
    """The folded FP32 graph to calibrate on, its linear layers, and the file whose graph is to be quantized."""

    reference: Artifact
    base: Artifact
    layers: tuple[LinearLayer, ...]

    @classmethod
    def find(cls, manifest: Manifest, base: Precision) -> FoldedGraphs:
        """The graphs of a manifest; raises QuantizationError where one is missing or is not a folded one."""
        from ..calibration.linear_layers import find_layers
        from ..graphs.load import load_graph

        reference, written = find_folded(manifest, Precision.FP32), find_folded(manifest, base)
        return cls(reference, written, find_layers(load_graph(reference.path)))

    def load_reference(self) -> ModelProto:
        """The FP32 graph."""
        from ..graphs.load import load_graph

        return load_graph(self.reference.path)


def quantize_file(base: Artifact, calibration: Calibration, kept: frozenset[str]) -> ModelProto:
    """The folded graph of `base` with all layers but those named in `kept` in 8 bits."""
    from ..calibration.calibrate import require_fit
    from ..calibration.linear_layers import find_layers
    from ..calibration.qdq import quantize_graph
    from ..graphs.load import load_graph

    model = load_graph(base.path)
    layers = find_layers(model)
    require_fit(calibration, layers)
    return quantize_graph(model, layers, calibration, kept)


def find_folded(manifest: Manifest, precision: Precision) -> Artifact:
    """The folded ONNX file in `precision`, unchanged since it was written; raises QuantizationError without one."""
    exported = [file for file in manifest.artifacts if file.format == "onnx" and file.precision is precision]
    artifact = next((file for file in exported if file.graph is Graph.FOLDED), None)
    if artifact is None:
        found = "only a plain one" if exported else "none"
        raise QuantizationError(
            f"8 bits are made from the folded {precision.value} graph, {manifest.path} lists {found}",
            fix="run `dualexport onnx --graph folded`, which writes FP32 and FP16",
        )
    check_artifact(artifact)
    return artifact


def reuse_calibration(
    manifest: Manifest,
    reference: Artifact,
    clips: Iterable[Clip] | None,
    method: Method | None,
    precision: Precision,
) -> Calibration | None:
    """The calibration in the manifest's folder if it is of this graph, and, where clips are given, of these.

    Without clips it has to be there, of this graph and by this method, if one is asked for: raises QuantizationError.
    """
    from ..calibration.calibrate import read_calibration
    from ..calibration.formats import FORMATS
    from ..calibration.observe import record_clip
    from ..calibration.stored import name_files

    path = manifest.folder / name_files(precision)[0]
    if not path.exists():
        if clips is None:
            raise QuantizationError(
                f"{precision.value.upper()} needs clips to measure ranges on; made-up data would measure nothing",
                fix=f"give --clips: about {USUAL_CLIPS} videos like those that the network will see",
            )
        return None
    calibration = read_calibration(manifest.folder, precision)
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
    if (calibration.graph, calibration.method) != (reference.sha256, method or FORMATS[precision].method):
        return None
    return calibration if tuple(record_clip(clip) for clip in clips) == calibration.clips else None


def measure(
    graphs: FoldedGraphs, clips: Iterable[Clip], method: Method | None, precision: Precision, reporter: Reporter
) -> Calibration:
    """Run the FP32 graph on `clips` and choose ranges and weights of the format `precision`."""
    from ..calibration.calibrate import Recipe, calibrate
    from ..calibration.formats import FORMATS
    from ..calibration.observe import make_observable

    recipe = Recipe(precision, method or FORMATS[precision].method)
    with open_graph(make_observable(graphs.load_reference(), graphs.layers), spinning=False) as runner:
        calibration = calibrate(runner, graphs.reference.sha256, graphs.layers, clips, recipe, reporter)
    if len(calibration.clips) < FEW_CLIPS:
        reporter.note(f"calibrated on {len(calibration.clips)} clips; about {USUAL_CLIPS} are usual")
    return calibration
