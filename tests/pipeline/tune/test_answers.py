"""Answers are computed once: what the journal holds is not asked again, by this run or a later one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from dualexport.clips.source import ClipSource
from dualexport.core.choices import Graph, Precision
from dualexport.core.errors import OutputError, QuantizationError
from dualexport.core.types import Array, Artifact, Preprocessing, TensorSpec
from dualexport.pipeline.tune.answers import Answers, Question, judge
from dualexport.pipeline.tune.journal import Journal
from dualexport.pipeline.tune.verdict import Answer
from dualexport.verification.pool import Pool

ARTIFACT = Artifact(
    *("onnx", Precision.FP32, Graph.FOLDED, Path("n.onnx"), "0" * 64, (), (TensorSpec("logits", "float32", (1, 3)),)),
    parent=None,
)


@dataclass
class Computed:
    """A pool that answers class 1, and counts the videos it was asked about; it breaks off after `most`."""

    most: int = 100
    videos: list[str] = field(default_factory=list)

    def map(self, jobs: Sequence[Question]) -> Iterator[list[Array]]:
        for job in jobs:
            self.videos += [video.name for video in job.source.videos]
            if len(self.videos) > self.most:
                raise KeyboardInterrupt
            yield [np.array([[0.0, 2.0, 1.0]], np.float32)] * len(job.source.videos)


@pytest.fixture
def source(tmp_path: Path) -> ClipSource:
    for number in range(10):
        (tmp_path / f"{number}.mp4").write_bytes(bytes(number))
    return ClipSource(tmp_path, Preprocessing())


def make_answers(source: ClipSource, journal: Journal, pool: Computed) -> Answers:
    return Answers(lambda _: ARTIFACT, {"n": source}, [1] * 5 + [2] * 5, journal, Pool((None,), pool.map))


def test_an_interrupted_run_goes_on_where_it_was(source: ClipSource, tmp_path: Path) -> None:
    first, second, third = Computed(most=4), Computed(), Computed()
    with Journal(tmp_path) as journal, pytest.raises(KeyboardInterrupt):
        make_answers(source, journal, first)("n", range(10))
    with Journal(tmp_path) as journal:
        found = make_answers(source, journal, second)("n", range(10))
        assert make_answers(source, journal, third)("n", range(10)) == found
    assert (len(second.videos), third.videos) == (6, [])
    assert [answer.right for answer in found] == [True] * 5 + [False] * 5


def test_a_video_that_has_changed_is_asked_about_again(source: ClipSource, tmp_path: Path) -> None:
    first, second = Computed(), Computed()
    with Journal(tmp_path) as journal:
        make_answers(source, journal, first)("n", range(10))
        (tmp_path / "3.mp4").write_bytes(b"another")
        make_answers(source, journal, second)("n", range(10))
    assert second.videos == ["3.mp4"]


def test_a_candidate_that_cannot_be_made_is_wrong_and_says_why(source: ClipSource, tmp_path: Path) -> None:
    def refuse(_: str) -> Artifact:
        raise QuantizationError("nothing is worth 8 bits", fix="none")

    with Journal(tmp_path) as journal:
        answers = Answers(refuse, {"n": source}, [0] * 10, journal, Pool((None,), Computed().map))
        assert answers("n", [1, 2]) == [Answer(right=False, margin=0.0)] * 2
    assert answers.failures == {"n": "nothing is worth 8 bits"}


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add_number("a", 1.5)
        assert journal.find_number("a") == 1.5
        with pytest.raises(OutputError, match="another run writes it"):
            Journal(tmp_path)


def test_views_are_judged_together_and_no_number_is_wrong() -> None:
    views = np.array([[3.0, 0.0], [0.0, 1.0]])
    assert judge(views, 0).right
    assert 0 < judge(views, 0).margin < 1
    assert judge(np.array([[np.nan, 0.0]]), 0) == Answer(right=False, margin=0.0)
