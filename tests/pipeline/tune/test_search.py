"""The search finds what all candidates on all videos would show, on fewer videos."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from dualexport.pipeline.tune.search import search
from dualexport.pipeline.tune.verdict import Answer, Budget, Fate, TimedCandidate, Trial
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Grid:
    """Made-up candidates with known latencies and answers: the first one is the reference."""

    candidates: list[TimedCandidate]
    right: dict[str, list[bool]]
    margins: list[float]
    asked: int = 0

    def ask(self, name: str, videos: Sequence[int]) -> list[Answer]:
        self.asked += len(videos)
        return [Answer(self.right[name][video], self.margins[video]) for video in videos]

    @property
    def videos(self) -> int:
        return len(self.margins)

    def exhaust(self, budget: Budget) -> str | None:
        """The winner by all answers of all candidates, written down once more."""
        totals = {name: sum(right) for name, right in self.right.items()}
        least = -1.0
        if budget.max_drop is not None:
            least = totals[self.candidates[0].name] - budget.max_drop * self.videos - 1e-6
        holding = [
            one
            for one in self.candidates
            if (budget.latency_ms is None or one.latency_ms <= budget.latency_ms)
            and totals[one.name] >= least
            and not any(
                other.network == one.network and other.width > one.width and other.latency_ms <= one.latency_ms
                for other in self.candidates
            )
        ]
        if budget.latency_ms is None:
            return min(((one.latency_ms, one.name) for one in holding), default=(0, None))[1]
        return min(((-totals[one.name], one.latency_ms, one.name) for one in holding), default=(0, 0, None))[2]


def make_grid(seed: int, candidates: int, videos: int) -> Grid:
    """Candidates of a few networks; all of them find the same videos hard, and slower ones are better on the whole."""
    chance = random.Random(seed)
    margins = [chance.random() for _ in range(videos)]
    grid = Grid([], {}, margins)
    for number in range(candidates):
        latency = chance.choice((1.0, 2.0, chance.uniform(1, 10)))
        one = TimedCandidate(f"c{number}", latency, f"n{number % 3}", number // 3)
        skill = 1.0 - chance.uniform(0, 0.3) / latency
        grid.candidates.append(one)
        grid.right[one.name] = [
            chance.random() < skill if margin < 0.4 else chance.random() < 0.99 for margin in margins
        ]
    return grid


budgets = st.builds(
    Budget,
    st.none() | st.floats(0.5, 11.0),
    st.none() | st.sampled_from((0.0, 0.01, 0.05, 0.2, -0.05)),
).filter(lambda budget: budget != Budget())


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 150), budgets)
def test_it_finds_what_all_candidates_on_all_videos_would_show(
    seed: int, candidates: int, videos: int, budget: Budget
) -> None:
    grid = make_grid(seed, candidates, videos)
    verdict = search(grid.candidates, "c0", budget, Trial(grid.ask, videos))
    assert verdict.winner == grid.exhaust(budget)
    assert verdict.asked == grid.asked <= candidates * videos
    if verdict.winner:
        assert len(verdict.standing(verdict.winner).answers) == videos
        assert verdict.standing(verdict.winner).fate is Fate.WON
        assert verdict.standing(verdict.winner).right >= verdict.least_right
    else:
        assert verdict.nearest


def test_no_video_is_asked_about_a_candidate_that_is_too_slow() -> None:
    grid = make_grid(0, 2, 50)
    grid.candidates = [TimedCandidate("c0", 3.0), TimedCandidate("c1", 9.0)]
    verdict = search(grid.candidates, "c0", Budget(4.0), Trial(grid.ask, 50))
    assert (verdict.winner, verdict.standing("c1").fate) == ("c0", Fate.SLOW)
    assert not verdict.standing("c1").answers


def test_one_that_is_clearly_behind_ends_on_the_first_videos() -> None:
    grid = Grid(
        [TimedCandidate("good", 2.0), TimedCandidate("bad", 1.0)],
        {"good": [True] * 800, "bad": [video % 2 == 0 for video in range(800)]},
        [0.5] * 800,
    )
    verdict = search(grid.candidates, "good", Budget(4.0), Trial(grid.ask, 800))
    bad = verdict.standing("bad")
    assert (bad.fate, bad.because_of) == (Fate.BEHIND, "good")
    assert len(bad.answers) <= 100


def test_a_slower_one_that_errs_as_often_is_refuted_by_its_errors_alone() -> None:
    right = [video % 40 != 0 for video in range(200)]
    grid = Grid([TimedCandidate("slow", 2.0), TimedCandidate("fast", 1.0)], {"slow": right, "fast": right}, [0.5] * 200)
    verdict = search(grid.candidates, "fast", Budget(4.0), Trial(grid.ask, 200))
    assert (verdict.winner, verdict.standing("slow").fate) == ("fast", Fate.REFUTED)
    assert verdict.asked < 200 + 40


def test_a_narrower_type_that_is_no_faster_is_no_candidate() -> None:
    grid = Grid(
        [TimedCandidate("fp16", 1.0, "b", 1), TimedCandidate("int8", 1.0, "b", 0)],
        {"fp16": [True] * 20, "int8": [True] * 20},
        [0.5] * 20,
    )
    verdict = search(grid.candidates, "fp16", Budget(4.0), Trial(grid.ask, 20))
    assert verdict.standing("int8").fate is Fate.DOMINATED


@pytest.mark.parametrize(("latency_ms", "nearest"), [(1.5, ("b", "a")), (0.5, ("b", "a"))])
def test_where_nothing_holds_the_budget_the_nearest_are_named(latency_ms: float, nearest: tuple[str, ...]) -> None:
    grid = Grid(
        [TimedCandidate("a", 2.0), TimedCandidate("b", 1.0)],
        {"a": [True] * 100, "b": [video >= 9 for video in range(100)]},
        [0.5] * 100,
    )
    verdict = search(grid.candidates, "a", Budget(latency_ms, 0.02), Trial(grid.ask, 100))
    assert (verdict.winner, verdict.nearest) == (None, nearest)
    assert verdict.asked == (200 if latency_ms > 1 else 0)
