"""Classes and probabilities, averaged over views the published way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.core.class_names import read_labels
from dualexport.core.errors import LabelError, RunnerError
from dualexport.core.types import Clip, TensorSpec
from dualexport.pipeline.classify import classify
from dualexport.verification.measures import softmax
from support.runners import SHAPE, FunctionRunner, logits


def test_probabilities_are_softmax_of_each_view_then_the_mean() -> None:
    views = [Clip("a.mp4", view, np.full(SHAPE, 3 * view, np.uint8), NANO_CLIP) for view in range(3)]
    other = Clip("b.mp4", 0, np.full(SHAPE, 50, np.uint8), NANO_CLIP)
    first, second = classify(FunctionRunner(lambda values: values, batch=2), [*views, other], list("abcde"))
    expected = softmax(logits(np.stack([view.data for view in views]))).mean(axis=0)
    assert (first.video, first.views, second.video, second.views) == ("a.mp4", 3, "b.mp4", 1)
    assert [item.index for item in first.top] == np.argsort(-expected).tolist()
    assert [item.probability for item in first.top] == pytest.approx(np.sort(expected)[::-1].tolist())
    assert first.top[0].label == "abcde"[first.top[0].index]


def test_a_video_that_comes_twice_has_two_predictions() -> None:
    views = [Clip("a.mp4", view, np.full(SHAPE, view, np.uint8), NANO_CLIP) for view in range(3)]
    single = Clip("b.mp4", 0, views[0].data, NANO_CLIP)
    found = classify(FunctionRunner(lambda values: values, batch=2), [*views, *views, single, single])
    assert [(one.video, one.views) for one in found] == [("a.mp4", 3), ("a.mp4", 3), ("b.mp4", 1), ("b.mp4", 1)]
    assert found[0].top == found[1].top
    assert found[0].top[0].label.startswith("class ")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    clips = [Clip("a.mp4", view, np.full(SHAPE, view, np.uint8), NANO_CLIP) for view in range(2)]
    broken = FunctionRunner(lambda values: np.where(values > 0.9, np.float32(value), values))
    with pytest.raises(RunnerError, match=r"a\.mp4: function gives logits that are NaN"):
        classify(broken, clips)


def test_what_classifies_no_clips_is_refused() -> None:
    runner = FunctionRunner(lambda values: values)
    with pytest.raises(LabelError, match="2 class names for a network of 5"):
        classify(runner, [], ("a", "b"))
    for outputs in ((), (TensorSpec("y", "float32", (1, 5, 2)),), (TensorSpec("y", "float32", (3, 5)),)):
        runner.outputs = outputs
        with pytest.raises(RunnerError, match="it classifies no clips"):
            classify(runner, [])


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_labels_are_lines_and_must_fit_the_network(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n\n")
    assert read_labels(path, 2) == ("cat", "dog")
    with pytest.raises(LabelError, match="names 2 classes, the network has 3"):
        read_labels(path, 3)
    with pytest.raises(LabelError, match="no such file"):
        read_labels(tmp_path / "gone.txt", 3)
    assert read_labels(None, 2) == ("class 0", "class 1")
