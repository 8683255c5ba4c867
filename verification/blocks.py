"""A graph's tensors against the reference's, block by block: where an error enters and how it grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from ..core.choices import Precision
from ..core.errors import ClipError
from ..core.reporter import Progress, no_progress
from ..core.types import LOGITS, Array, Clip

# Relative error that rounding alone leaves after a block; below it, growth says nothing.
ROUNDING = MappingProxyType({Precision.FP32: 1e-5, Precision.FP16: 2e-3, Precision.FP8: 5e-2, Precision.INT8: 2e-2})
STANDS_OUT = 5.0  # times the error before, or rounding
CLASSIFIER_GROWTH = 2.0  # by which the error of sound logits may exceed that of every block


class BlockOutputs(Protocol):
    """Computes a clip's block outputs by name; `missing` are the blocks that it has no output of."""

    missing: tuple[str, ...]

    def run(self, clip: Clip) -> dict[str, Array]: ...


@dataclass(frozen=True, slots=True)
class BlockError:
    """The distance of a block's output from the reference's, over all clips.

    `relative_error` is the norm of the difference, divided by that of the reference's output.
    """

    name: str
    relative_error: float
    largest_difference: float


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One artifact's errors in the order of computation.

    `enters_at` is the block behind which the error is far above what it was before, None where it grows evenly;
    `missing` are blocks whose tensors the graph does not have.
    """

    artifact: str
    clips: int
    blocks: tuple[BlockError, ...]
    enters_at: str | None
    missing: tuple[str, ...]

    @property
    def remark(self) -> str:
        """A sentence on `enters_at`, and where to look."""
        if self.enters_at is None:
            return "no block stands out: the error grows evenly"
        if self.blocks[0].name == self.enters_at:
            return f"the error enters at {self.enters_at}, the first: see the input's colour order and normalization"
        if self.enters_at == LOGITS:
            return f"the error enters at {LOGITS}: see the classifier and the order of its classes"
        return f"the error enters at {self.enters_at}"


def compare_blocks(
    artifacts: Mapping[str, tuple[BlockOutputs, Precision]],
    reference: Callable[[Clip], Mapping[str, Array]],
    clips: Iterable[Clip],
    progress: Progress = no_progress,
) -> tuple[LayerReport, ...]:
    """Compare each block of every artifact with what `reference` says of a clip; one clip is in memory at a time."""
    sums = {name: _Sums() for name in artifacts}
    done = 0
    for clip in clips:
        progress("comparing blocks", done)
        expected = reference(clip)
        for name, (graph, _) in artifacts.items():
            sums[name].add(expected, graph.run(clip))
        done += 1
    if not done:
        raise ClipError("no clip to compare", fix="give a source with at least one readable video")
    reports = []
    for name, (graph, precision) in artifacts.items():
        blocks = sums[name].errors()
        reports.append(LayerReport(name, done, blocks, find_entry(blocks, ROUNDING[precision]), graph.missing))
    return tuple(reports)


def find_entry(blocks: Sequence[BlockError], rounding: float) -> str | None:
    """The block at which the error grows the most, if to several times what was before and what rounding makes.

    Where none does, and yet the logits are far off, a block in which less than usual is rounded hides it: what rounding
    makes is taken for less then.
    """
    found = _find_jump(blocks, rounding)
    if found is None and blocks and blocks[-1].relative_error > STANDS_OUT * rounding:
        found = _find_jump(blocks, rounding / STANDS_OUT)
    return found


def _find_jump(blocks: Sequence[BlockError], rounding: float) -> str | None:
    """A block is held against the one before it; the logits against the worst block, and that with more allowance.

    Along the network an error is averaged out, and the classifier brings it back.
    """
    before, worst, found, largest = rounding, rounding, None, STANDS_OUT
    for block in blocks:
        error = math.inf if math.isnan(block.relative_error) else block.relative_error
        growth = error / worst / CLASSIFIER_GROWTH if block.name == LOGITS else error / before
        if growth > largest:
            found, largest = block.name, growth
        before, worst = max(rounding, error), max(worst, error)
    return found


class _Sums:
    """Energies of a graph's blocks and of their differences, over clips."""

    def __init__(self) -> None:
        self._energies: dict[str, tuple[float, float, float]] = {}

    def add(self, expected: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        for name, values in got.items():
            wanted = expected[name]
            with np.errstate(invalid="ignore", over="ignore"):
                difference = (values.astype(np.float32) - wanted).reshape(-1)
                noise = float(difference @ difference)
                largest = float(np.abs(difference).max())
            signal = float(wanted.reshape(-1) @ wanted.reshape(-1))
            before = self._energies.get(name, (0.0, 0.0, 0.0))
            self._energies[name] = (before[0] + signal, before[1] + noise, float(np.maximum(before[2], largest)))

    def errors(self) -> tuple[BlockError, ...]:
        return tuple(
            BlockError(name, math.sqrt(noise / signal) if signal else math.inf, largest)
            for name, (signal, noise, largest) in self._energies.items()
        )
