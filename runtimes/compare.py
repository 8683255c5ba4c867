"""Holds what artifacts compute against the reference network, clip by clip, in fixed memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import length_hint

import numpy as np

from ..contracts import Array, Clip, ClipError, Precision, Progress, Runner, no_progress
from .classify import infer_logits


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest logit difference and the smallest cosine that still count as the same function.

    `top1_agreement` is the share of clips whose best class must be the same; one clip may always differ, because two
    classes may be as good as equal.
    """

    logit_difference: float
    cosine: float
    top1_agreement: float = 0.0


DEFAULT_TOLERANCES = {
    Precision.FP32: Tolerance(1e-3, 0.9999),
    Precision.FP16: Tolerance(0.1, 0.9999),
    Precision.INT8: Tolerance(2.0, 0.98, 0.98),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is compared with the reference, and how close it has to come."""

    runner: Runner
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """How far one artifact is from the reference on a set of clips.

    `top1_agreement` is the share of clips with the same best class; `cosine` the smallest over clips, of logits;
    `worst_clip` the one with the largest logit difference. A NaN in any figure is a failure.
    """

    artifact: str
    runner: str
    clips: int
    top1_agreement: float
    largest_difference: float
    mean_difference: float
    cosine: float
    worst_clip: str
    tolerance: Tolerance

    @property
    def allowed_disagreements(self) -> int:
        """How many clips may have another best class than the reference's."""
        return max(1, int(self.clips * (1.0 - self.tolerance.top1_agreement)))

    @property
    def passed(self) -> bool:
        return (
            self.largest_difference <= self.tolerance.logit_difference
            and self.cosine >= self.tolerance.cosine
            and self.clips > 0
            and round(self.clips * (1.0 - self.top1_agreement)) <= self.allowed_disagreements
        )


def compare(
    reference: Runner,
    candidates: Mapping[str, Candidate],
    clips: Iterable[Clip],
    progress: Progress = no_progress,
) -> tuple[ComparisonReport, ...]:
    """Run every clip through `reference` and each of `candidates`, by artifact name.

    Raises ClipError when there is no clip to compare: nothing compared is no agreement.
    """
    tallies = {name: _Tally() for name in candidates}
    runners = (reference, *(candidate.runner for candidate in candidates.values()))
    size = max(runner.inputs[0].shape[0] for runner in runners)
    iterator, done, total = iter(clips), 0, length_hint(clips) or None
    progress("comparing clips", done, total)
    while part := list(islice(iterator, size)):
        expected = infer_logits(reference, part)
        for name, candidate in candidates.items():
            tallies[name].add(part, expected, infer_logits(candidate.runner, part))
        done += len(part)
        progress("comparing clips", done, total)
    if done == 0:
        raise ClipError("no clip to compare", fix="give a source with at least one readable video")
    return tuple(tallies[name].report(name, candidate) for name, candidate in candidates.items())


class _Tally:
    """Running figures of one artifact."""

    def __init__(self) -> None:
        self.clips = 0
        self.agreed = 0
        self.difference_sum = 0.0
        self.largest = -1.0
        self.cosine = 1.0
        self.worst = ""

    def add(self, clips: list[Clip], expected: Array, got: Array) -> None:
        for clip, wanted, found in zip(clips, expected.astype(np.float64), got.astype(np.float64), strict=True):
            difference = np.abs(found - wanted)
            largest = float(difference.max())
            cosine = float(found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted)))
            if not (largest <= self.largest or math.isnan(self.largest)):  # a NaN wins, and stays
                self.largest, self.worst = largest, f"{clip.name} (view {clip.view})"
            self.cosine = float(np.minimum(self.cosine, cosine))
            self.difference_sum += float(difference.mean())
            self.agreed += int(found.argmax() == wanted.argmax())
            self.clips += 1

    def report(self, name: str, candidate: Candidate) -> ComparisonReport:
        return ComparisonReport(
            artifact=name,
            runner=candidate.runner.name,
            clips=self.clips,
            top1_agreement=self.agreed / self.clips,
            largest_difference=self.largest,
            mean_difference=self.difference_sum / self.clips,
            cosine=self.cosine,
            worst_clip=self.worst,
            tolerance=candidate.tolerance,
        )
