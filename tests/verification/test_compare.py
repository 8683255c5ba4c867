"""A comparison tells how far apart two runners are, and passes nothing it should not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.core.errors import (
    ClipError,
    CudaError,
    DualExportError,
    EngineError,
    LabelError,
    PlanError,
    RunnerError,
)
from dualexport.core.types import Array, Clip
from dualexport.verification.compare import Candidate, Comparison, compare
from dualexport.verification.limits import Limits
from dualexport.verification.measures import softmax
from support.runners import CLASSES, SHAPE, FunctionRunner, logits

ACTIONS = ("run", "sit", "jump", "wave", "fall")
LIMIT = Limits(logit_difference=1e-3, cosine=0.9999)


def clips(count: int) -> list[Clip]:
    return [Clip(f"clip {number}", 0, np.full(SHAPE, number, np.uint8), NANO_CLIP) for number in range(count)]


def identical(values: Array) -> Array:
    return values


def test_the_same_function_agrees_whatever_the_batch_sizes() -> None:
    candidates = {
        "one": Candidate(FunctionRunner(identical), LIMIT),
        "three": Candidate(FunctionRunner(identical, batch=3), LIMIT),
    }
    for report in compare(FunctionRunner(identical, batch=2), candidates, clips(7)).reports:
        assert report.passed
        assert (report.clips, report.top1_agreement, report.largest_difference) == (7, 1.0, 0.0)
        assert report.cosine == pytest.approx(1.0)


def test_a_filled_up_batch_counts_its_clips_once() -> None:
    runner = FunctionRunner(identical, batch=4)
    (report,) = compare(FunctionRunner(identical), {"four": Candidate(runner, LIMIT)}, clips(5)).reports
    assert (report.clips, runner.batches) == (5, 2)


def test_a_difference_is_found_with_its_clip() -> None:
    def wrong_on_clip_2(values: Array) -> Array:
        return values + np.where(np.isclose(values[:, :1], np.cos(np.float32(2))), 0.5, 0).astype(np.float32)

    (report,) = compare(
        FunctionRunner(identical), {"wrong": Candidate(FunctionRunner(wrong_on_clip_2), LIMIT)}, clips(4)
    ).reports
    assert not report.passed
    assert report.worst_clip == "clip 2 (view 0)"
    assert report.largest_difference == pytest.approx(0.5)
    assert report.mean_difference == pytest.approx(0.5 / 4)


def test_swapped_classes_are_found() -> None:
    (report,) = compare(
        FunctionRunner(identical),
        {"swapped": Candidate(FunctionRunner(lambda values: values[:, ::-1]), LIMIT)},
        clips(4),
    ).reports
    assert not report.passed
    assert report.top1_agreement < 1


def test_nan_never_passes_and_names_its_clip() -> None:
    def nan_on_clip_1(values: Array) -> Array:
        return np.where(np.isclose(values[:, :1], np.cos(np.float32(1))), np.nan, values)

    (report,) = compare(
        FunctionRunner(identical), {"nan": Candidate(FunctionRunner(nan_on_clip_1), Limits())}, clips(4)
    ).reports
    assert not report.passed
    assert report.worst_clip == "clip 1 (view 0)"
    assert report.not_finite == 1


def labelled(count: int, views: int) -> list[Clip]:
    """Videos whose label is the class that `logits` gives their first view."""
    found = []
    for number in range(count):
        frames = [np.full(SHAPE, 10 * number + view, np.uint8) for view in range(views)]
        label = ACTIONS[int(logits(frames[0][None]).argmax())]
        found += [Clip(f"{number}.mp4", view, data, NANO_CLIP, label=label) for view, data in enumerate(frames)]
    return found


def compare_one(function: Callable[[Array], Array], source: list[Clip], names: Sequence[str] = ACTIONS) -> Comparison:
    candidates = {"artifact": Candidate(FunctionRunner(function), Limits())}
    return compare(FunctionRunner(identical), candidates, source, names)


def test_accuracy_is_of_videos_and_paired_with_the_reference() -> None:
    comparison = compare_one(lambda values: np.roll(values, 1, axis=1), labelled(12, 1))
    assert comparison.accuracy is not None
    assert (comparison.labelled, comparison.accuracy.top1.share) == (12, 1.0)
    (report,) = comparison.reports
    assert report.accuracy is not None
    assert report.paired is not None
    assert (report.accuracy.top1.count, report.accuracy.top5.count) == (0, 12)
    assert (report.paired.lost, report.paired.gained, report.paired.drop) == (12, 0, 1.0)
    assert report.paired.p_value == pytest.approx(2 / 2**12)


def test_views_are_averaged_as_probabilities_and_the_middle_one_counts_alone() -> None:
    source = labelled(6, 3)
    comparison = compare_one(identical, source)
    assert comparison.accuracy is not None
    rows = np.concatenate([logits(clip.data[None]) for clip in source]).reshape(6, 3, CLASSES)
    labels = [ACTIONS.index(str(clip.label)) for clip in source[::3]]
    averaged = sum(row.mean(axis=0).argmax() == label for row, label in zip(softmax(rows), labels, strict=True))
    assert (comparison.clips, comparison.videos) == (18, 6)
    assert comparison.accuracy.top1.count == averaged
    assert comparison.accuracy.single_view.count == sum(rows[:, 1].argmax(axis=1) == labels)


def test_clips_without_labels_have_no_accuracy_and_odd_labels_are_refused() -> None:
    assert compare_one(identical, clips(3)).accuracy is None
    numbered = [Clip("a", 0, np.zeros(SHAPE, np.uint8), NANO_CLIP, label="4")]
    assert compare_one(identical, numbered, ()).labelled == 1
    for label in ("5", "dancing", "-1"):
        with pytest.raises(LabelError, match="is no class of the network"):
            compare_one(identical, [Clip("a", 0, np.zeros(SHAPE, np.uint8), NANO_CLIP, label=label)])


def test_ten_worst_clips_come_worst_first_with_both_predictions() -> None:
    def off_by_level(values: Array) -> Array:
        return np.asarray(values * (1 + np.abs(values[:, :1])), np.float32)

    (report,) = compare_one(off_by_level, clips(30)).reports
    assert len(report.worst) == 10
    differences = [clip.difference for clip in report.worst]
    assert differences == sorted(differences, reverse=True)
    assert differences[0] == report.largest_difference
    first = report.worst[0]
    row = logits(np.full((1, *SHAPE), int(first.name.split()[1]), np.uint8))
    assert first.reference.index == int(row.argmax())
    assert first.reference.probability == pytest.approx(float(softmax(row).max()))


def test_an_artifact_that_breaks_off_fails_and_the_others_go_on() -> None:
    def breaks(_: Array) -> Array:
        raise RunnerError("out of memory", fix="buy some")

    candidates = {
        "breaks": Candidate(FunctionRunner(breaks), Limits()),
        "did not load": Candidate(None, Limits(), "no such file"),
        "same": Candidate(FunctionRunner(identical), LIMIT),
    }
    comparison = compare(FunctionRunner(identical), candidates, clips(3))
    assert not comparison.passed
    assert [report.passed for report in comparison.reports] == [False, False, True]
    assert [report.failure for report in comparison.reports] == ["out of memory", "no such file", None]


@pytest.mark.parametrize(
    "error", [CudaError("no memory", 2, fix="x"), EngineError("gone", fix="x"), PlanError("no", fix="x")]
)
def test_whatever_error_a_candidate_raises_is_its_own_failure(error: DualExportError) -> None:
    def breaks(_: Array) -> Array:
        raise error

    candidates = {
        "breaks": Candidate(FunctionRunner(breaks), Limits()),
        "same": Candidate(FunctionRunner(identical), LIMIT),
    }
    reports = compare(FunctionRunner(identical), candidates, clips(3)).reports
    assert [(report.failure, report.clips) for report in reports] == [(str(error), 0), (None, 3)]
    with pytest.raises(RunnerError, match=f"clip 0: {error}"):
        compare(FunctionRunner(breaks), candidates, clips(3))


def test_every_clip_is_in_one_class_of_the_agreement() -> None:
    (report,) = compare_one(lambda values: np.roll(values, 1, axis=1), clips(20)).reports
    assert sum(entry.clips for entry in report.classes) == 20
    assert sum(entry.agreed for entry in report.classes) == 0
    assert report.agreement is not None
    assert (report.agreement.low, round(report.agreement.high, 2)) == (0.0, 0.16)


def test_comparing_nothing_is_an_error() -> None:
    with pytest.raises(ClipError, match="no clip to compare"):
        compare(FunctionRunner(identical), {"same": Candidate(FunctionRunner(identical), LIMIT)}, [])


def test_a_clip_of_another_size_is_refused_by_name() -> None:
    wrong = Clip("small.npy[0]", 0, np.zeros((8, 224, 224, 3), np.uint8), NANO_CLIP)
    with pytest.raises(ClipError, match=r"small\.npy\[0\]: the clip is \(8, 224, 224, 3\), the network takes"):
        compare(FunctionRunner(identical), {"same": Candidate(FunctionRunner(identical), LIMIT)}, [wrong])
