"""Two networks as one: which of them answers a clip, and what of a folder that names them is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from dualexport.core.errors import RunnerError
from dualexport.core.types import Array
from dualexport.pipeline.cascade import CascadeRunner, find_margins
from support.runners import CLASSES, SHAPE, FunctionRunner


def answer(level: float) -> Callable[[Array], Array]:
    """A function that gives class 0 so many logits more than the others."""

    def function(logits: Array) -> Array:
        return np.eye(1, CLASSES, dtype=np.float32).repeat(len(logits), 0) * level

    return function


def clips(batch: int) -> Array:
    return np.arange(batch * np.prod(SHAPE), dtype=np.int64).reshape(batch, *SHAPE).astype(np.uint8)


@pytest.mark.parametrize(("margin", "expected"), [(1.0, 2.0), (2.5, 7.0)])
def test_the_dear_one_answers_below_the_margin_only(margin: float, expected: float) -> None:
    cheap, dear = FunctionRunner(answer(2.0)), FunctionRunner(answer(7.0))
    with CascadeRunner(cheap, dear, margin) as runner:
        logits = runner.infer({"clip": clips(1)})["logits"]
    assert logits[0, 0] == expected
    assert (cheap.batches, dear.batches) == (1, int(expected == 7.0))
    assert (runner.clips, runner.passed_on) == (1, dear.batches)


def test_of_a_batch_only_some_clips_are_passed_on_and_the_batch_of_the_engine_is_kept() -> None:
    def by_clip(logits: Array) -> Array:
        return np.stack([[float(number), 0, 0, 0, 0] for number in range(len(logits))]).astype(np.float32)

    cheap, dear = FunctionRunner(by_clip, batch=4), FunctionRunner(answer(9.0), batch=4)
    with CascadeRunner(cheap, dear, 1.5) as runner:
        logits = runner.infer({"clip": clips(4)})["logits"]
    assert logits[:, 0].tolist() == [9.0, 9.0, 2.0, 3.0]


def test_logits_that_are_no_numbers_are_passed_on() -> None:
    assert find_margins(np.array([[np.nan, 1.0], [np.inf, 0.0], [3.0, 1.0]])).tolist() == [0.0, 0.0, 2.0]


def test_networks_of_other_clips_are_no_cascade() -> None:
    with pytest.raises(RunnerError, match="take other clips"):
        CascadeRunner(FunctionRunner(answer(1.0)), FunctionRunner(answer(1.0), batch=2), 1.0)
