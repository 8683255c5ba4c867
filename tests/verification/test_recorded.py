"""A recorded reference computes once, and says the same in every later pass."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from dualexport.core.types import Array, TensorSpec
from dualexport.verification.recorded import RecordedRunner


class Doubling:
    """A runner that doubles its input."""

    name = "doubling"
    inputs = outputs = (TensorSpec("x", "float32", (1, 2)),)

    def __init__(self) -> None:
        self.runs = 0

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.runs += 1
        return {"x": 2 * feeds["x"]}


def test_it_computes_once_for_many_passes() -> None:
    batches = [np.full((1, 2), number, np.float32) for number in range(3)]
    computing = Doubling()
    with RecordedRunner(computing) as runner:  # type: ignore[arg-type]  # no context manager
        passes = []
        for _ in range(3):
            runner.rewind()
            passes.append([runner.infer({"x": batch})["x"] for batch in batches])
    assert computing.runs == 3
    for one in passes:
        assert np.array_equal(one, [2 * batch for batch in batches])
