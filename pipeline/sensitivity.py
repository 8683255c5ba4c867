"""The layers that INT8 costs most in, the fewest that have to stay unquantized, and runners of unwritten graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..clips.read_ahead import ReadAhead
from ..core.errors import QuantizationError
from ..core.reporter import Reporter
from ..core.runner import Runner
from ..core.types import Clip

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..calibration.sensitivity import LayerNoise
    from ..runtimes.onnx_runner import OnnxRunner

SENSITIVITY_CLIPS = 4  # their activations are kept in memory


def find_fewest_kept(
    ranking: Sequence[LayerNoise],
    kept: frozenset[str],
    measure: Callable[[frozenset[str]], float],
    target: float,
    reporter: Reporter,
) -> frozenset[str]:
    """The layers `kept`, and the fewest of the worst besides with which `measure`, an agreement, reaches `target`.

    Raises QuantizationError when not even keeping all layers but the best one reaches it.
    """
    from ..calibration.search import find_least

    worst = [noise.layer for noise in ranking if noise.layer not in kept]

    def reaches(count: int) -> bool:
        reporter(f"agreement with the {count} worst layers kept")
        return measure(kept.union(worst[:count])) >= target

    count = find_least(reaches, len(worst) - 1)
    if count is None:
        raise QuantizationError(
            f"no choice of layers agrees with FP32 on {target:.1%} of the held-out clips",
            fix="ask for less with --target-agreement, or calibrate on more clips",
        )
    return kept.union(worst[:count])


def measure_agreement(expected: Runner, quantized: ModelProto, clips: Iterable[Clip]) -> float:
    """The share of clips that the graph `quantized` takes for the same best class as the runner `expected`."""
    from ..verification.compare import Candidate, compare
    from ..verification.limits import Limits

    with open_graph(quantized) as runner:
        comparison = compare(expected, {"int8": Candidate(runner, Limits())}, ReadAhead(clips), names=None)
    return comparison.reports[0].top1_agreement


@contextmanager
def open_graph(model: ModelProto, *, spinning: bool = True) -> Iterator[OnnxRunner]:
    """A runner of a graph that is no file yet."""
    import onnx

    from ..runtimes.onnx_runner import OnnxRunner

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        with OnnxRunner(path, spinning=spinning) as runner:
            yield runner
