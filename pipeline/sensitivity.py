"""Which layers INT8 costs most in, and the fewest of them that have to stay unquantized for a target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..clips.read_ahead import ReadAhead
from ..core.choices import Precision
from ..core.errors import QuantizationError
from ..core.reporter import Reporter
from ..core.types import Artifact, Clip
from .quantize import find_folded

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..calibration.calibrate import Calibration
    from ..calibration.sensitivity import LayerNoise
    from ..core.manifest import Manifest
    from ..runtimes.onnx_runner import OnnxRunner

SENSITIVITY_CLIPS = 4  # their activations are kept in memory


def rank_sensitivity(
    manifest: Manifest, calibration: Calibration, clips: Iterable[Clip], reporter: Reporter
) -> tuple[LayerNoise, ...]:
    """The share of the output's error of each linear layer, on the first clips; the worst first."""
    from ..calibration.linear_layers import find_layers
    from ..calibration.sensitivity import rank_layers
    from ..graphs.load import load_graph

    model = load_graph(find_folded(manifest, Precision.FP32).path)
    few = tuple(islice(clips, SENSITIVITY_CLIPS))
    return rank_layers(model, find_layers(model), calibration, few, open_graph, reporter)


def find_fewest_kept(
    manifest: Manifest,
    calibration: Calibration,
    ranking: Sequence[LayerNoise],
    held_out: Iterable[Clip],
    target: float,
    reporter: Reporter,
) -> tuple[str, ...]:
    """The fewest of the worst layers that have to be kept for the best class to agree on `target` of `held_out`.

    Raises QuantizationError when not even keeping all layers but the best one reaches it.
    """
    from ..calibration.search import find_least

    reference = find_folded(manifest, Precision.FP32)

    def reaches(count: int) -> bool:
        reporter(f"agreement with the {count} worst layers kept")
        names = frozenset(noise.layer for noise in ranking[:count])
        return _measure_agreement(reference, calibration, names, held_out) >= target

    count = find_least(reaches, len(ranking) - 1)
    if count is None:
        raise QuantizationError(
            f"no choice of layers agrees with FP32 on {target:.1%} of the held-out clips",
            fix="ask for less with --target-agreement, or calibrate on more clips",
        )
    return tuple(noise.layer for noise in ranking[:count])


def _measure_agreement(
    reference: Artifact, calibration: Calibration, kept: frozenset[str], clips: Iterable[Clip]
) -> float:
    """Share of clips whose best class is the FP32 graph's, with the layers `kept` unquantized."""
    from ..calibration.linear_layers import find_layers
    from ..calibration.qdq import quantize_graph
    from ..graphs.load import load_graph
    from ..runtimes.onnx_runner import OnnxRunner
    from ..verification.compare import Candidate, compare
    from ..verification.limits import Limits

    model = load_graph(reference.path)
    quantized = quantize_graph(model, find_layers(model), calibration, kept)
    with OnnxRunner(reference.path) as expected, open_graph(quantized) as runner:
        comparison = compare(expected, {"int8": Candidate(runner, Limits())}, ReadAhead(clips), names=None)
    return comparison.reports[0].top1_agreement


@contextmanager
def open_graph(model: ModelProto) -> Iterator[OnnxRunner]:
    """A runner of a graph that is no file yet."""
    import onnx

    from ..runtimes.onnx_runner import OnnxRunner

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        with OnnxRunner(path) as runner:
            yield runner
