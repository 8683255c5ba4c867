"""Thresholds by class, held to counting clips one by one."""

from __future__ import annotations

import numpy as np
import pytest
from dualexport.core.types import Array
from dualexport.verification.measures import softmax
from dualexport.verification.thresholds import STEPS, ThresholdTally

CLASSES = 5


def tally(probabilities: Array, labels: Array) -> ThresholdTally:
    thresholds = ThresholdTally()
    for row, label in zip(probabilities, labels, strict=True):
        thresholds.add(row, int(label))
    return thresholds


def count(probabilities: Array, labels: Array, index: int, threshold: float) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of a class, clip by clip."""
    pairs = [(bool(row[index] >= threshold), label == index) for row, label in zip(probabilities, labels, strict=True)]
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_counting_clips(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES - 1, 60)  # no clip shows the last class
    logits = random.normal(0, 1, (60, CLASSES))
    logits[np.arange(60), labels] += 1.5
    probabilities = softmax(logits)
    probabilities[:4, 0] = (0.5, 0.49999, 0.1, 1.0)  # a threshold itself is reached
    found = tally(probabilities, labels).report()
    assert [one.index for one in found] == sorted(set(labels.tolist()))
    for one in found:
        assert one.clips == (labels == one.index).sum()
        scores = {}
        for step in STEPS.tolist():
            right, wrong, missed = count(probabilities, labels, one.index, step)
            scores[step] = 2 * right / (2 * right + wrong + missed)
            point = next(point for point in reversed(one.points) if point.threshold <= step)
            assert point.recall == pytest.approx(right / (right + missed))
            assert point.precision == (pytest.approx(right / (right + wrong)) if right + wrong else None)
        assert one.f1 == pytest.approx(max(scores.values()))
        assert scores[one.suggested] == pytest.approx(one.f1)
        right, wrong, missed = count(probabilities, labels, one.index, one.suggested)
        assert (one.precision, one.recall) == pytest.approx((right / (right + wrong), right / (right + missed)))


def test_the_suggestion_is_as_far_from_either_side_as_the_clips_allow() -> None:
    shows, other = np.array([0.8, 0.2]), np.array([0.4, 0.6])
    (first, _) = tally(np.stack([shows, other]), np.array([0, 1])).report()
    assert (first.suggested, first.f1, first.precision, first.recall) == (0.6, 1.0, 1.0, 1.0)  # of 0.41 to 0.80


def test_a_clip_that_is_not_a_number_reaches_no_threshold() -> None:
    (first,) = tally(np.array([[np.nan, np.nan], [0.9, 0.1]]), np.array([0, 0])).report()
    assert first.points[0].recall == 0.5


def test_without_labelled_clips_there_is_none() -> None:
    assert ThresholdTally().report() == ()
