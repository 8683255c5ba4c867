"""A comparison tells how far apart two runners are, and passes nothing it should not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.contracts import Array, Clip, ClipError, TensorSpec
from dualexport.runtimes.compare import Candidate, Tolerance, compare

SHAPE = (16, 224, 224, 3)
CLASSES = 5
LIMIT = Tolerance(logit_difference=1e-3, cosine=0.9999)


class FunctionRunner:
    """Computes logits from a clip's mean colour by a function; the batch size is its own."""

    def __init__(self, function: Callable[[Array], Array], batch: int = 1) -> None:
        self.name = "function"
        self.inputs = (TensorSpec("clip", "uint8", (batch, *SHAPE)),)
        self.outputs = (TensorSpec("logits", "float32", (batch, CLASSES)),)
        self.batches = 0
        self._function = function

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert feeds["clip"].shape == self.inputs[0].shape
        self.batches += 1
        return {"logits": self._function(logits(feeds["clip"]))}

    def __enter__(self) -> FunctionRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def logits(clips: Array) -> Array:
    level = clips[:, 0, 0, 0, :1].astype(np.float32)  # (batch, 1): the clip's number, as grey level
    return np.concatenate([np.cos(level + step) for step in range(CLASSES)], axis=1)


def clips(count: int) -> list[Clip]:
    return [Clip(f"clip {number}", 0, np.full(SHAPE, number, np.uint8), NANO_CLIP) for number in range(count)]


def identical(values: Array) -> Array:
    return values


def test_the_same_function_agrees_whatever_the_batch_sizes() -> None:
    candidates = {
        "one": Candidate(FunctionRunner(identical), LIMIT),
        "three": Candidate(FunctionRunner(identical, batch=3), LIMIT),
    }
    for report in compare(FunctionRunner(identical, batch=2), candidates, clips(7)):
        assert report.passed
        assert (report.clips, report.top1_agreement, report.largest_difference) == (7, 1.0, 0.0)
        assert report.cosine == pytest.approx(1.0)


def test_a_filled_up_batch_counts_its_clips_once() -> None:
    runner = FunctionRunner(identical, batch=4)
    (report,) = compare(FunctionRunner(identical), {"four": Candidate(runner, LIMIT)}, clips(5))
    assert (report.clips, runner.batches) == (5, 2)


def test_a_difference_is_found_with_its_clip() -> None:
    def wrong_on_clip_2(values: Array) -> Array:
        return values + np.where(np.isclose(values[:, :1], np.cos(np.float32(2))), 0.5, 0).astype(np.float32)

    (report,) = compare(
        FunctionRunner(identical), {"wrong": Candidate(FunctionRunner(wrong_on_clip_2), LIMIT)}, clips(4)
    )
    assert not report.passed
    assert report.worst_clip == "clip 2 (view 0)"
    assert report.largest_difference == pytest.approx(0.5)
    assert report.mean_difference == pytest.approx(0.5 / 4)


def test_swapped_classes_are_found() -> None:
    (report,) = compare(
        FunctionRunner(identical),
        {"swapped": Candidate(FunctionRunner(lambda values: values[:, ::-1]), LIMIT)},
        clips(4),
    )
    assert not report.passed
    assert report.top1_agreement < 1


def test_nan_never_passes_and_names_its_clip() -> None:
    def nan_on_clip_1(values: Array) -> Array:
        return np.where(np.isclose(values[:, :1], np.cos(np.float32(1))), np.nan, values)

    (report,) = compare(
        FunctionRunner(identical), {"nan": Candidate(FunctionRunner(nan_on_clip_1), Tolerance(1e9, -1))}, clips(4)
    )
    assert not report.passed
    assert report.worst_clip == "clip 1 (view 0)"


def test_comparing_nothing_is_an_error() -> None:
    with pytest.raises(ClipError, match="no clip to compare"):
        compare(FunctionRunner(identical), {"same": Candidate(FunctionRunner(identical), LIMIT)}, [])


def test_a_clip_of_another_size_is_refused_by_name() -> None:
    wrong = Clip("small.npy[0]", 0, np.zeros((8, 224, 224, 3), np.uint8), NANO_CLIP)
    with pytest.raises(ClipError, match=r"small\.npy\[0\]: the clip is \(8, 224, 224, 3\), the network takes"):
        compare(FunctionRunner(identical), {"same": Candidate(FunctionRunner(identical), LIMIT)}, [wrong])
