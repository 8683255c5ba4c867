"""Cascades as candidates: a margin fitted on a part of the videos, accuracy and mean latency judged on the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.types import Array
from ..cascade import find_margins
from .answers import judge
from .verdict import Budget, TimedCandidate

FITTED = 3  # the margin is fitted on one of so many videos
MOST_MARGINS = 64  # that are tried
AskLogits = Callable[[str, Sequence[int]], Sequence[Array]]  # a candidate's name and videos by number


@dataclass(frozen=True, slots=True)
class Pair:
    """A cheap network and a dear one."""

    cheap: TimedCandidate
    dear: TimedCandidate

    @property
    def name(self) -> str:
        """`dualformer-t.fp16 then dualformer-b.fp16`."""
        return f"{self.cheap.name} then {self.dear.name}"

    def mean_ms(self, share: float) -> float:
        """The mean of an inference where the dear one answers this share of the clips."""
        return self.cheap.latency_ms + share * self.dear.latency_ms


@dataclass(frozen=True, slots=True)
class JudgedCascade:
    """A cascade: its margin, the share of the clips of the `rest` that the dear one answers, and its mean latency.

    `right` are the videos of the rest that it classifies rightly, `least` is the number that the budget asks for there.
    """

    pair: Pair
    margin: float
    share: float
    latency_ms: float
    rest: tuple[int, ...]
    right: frozenset[int]
    least: int

    def holds(self, budget: Budget) -> bool:
        """True where it holds the budget on the rest."""
        fast = budget.latency_ms is None or self.latency_ms <= budget.latency_ms
        return fast and len(self.right) >= self.least


@dataclass(frozen=True, slots=True)
class CascadeTrial:
    """The labels of all videos, the way to ask for logits, the budget, and the reference's name."""

    labels: Sequence[int]
    ask: AskLogits
    budget: Budget
    reference: str

    def split(self) -> tuple[list[int], list[int]]:
        """The videos to fit on, and the rest, by chance, the same in every run."""
        count = len(self.labels)
        order = random.Random(FITTED).sample(range(count), count)  # noqa: S311
        return sorted(order[: count // FITTED]), sorted(order[count // FITTED :])

    def judge(self, pair: Pair) -> JudgedCascade | None:
        """Fit the margin, and judge it; None where none above 0 holds the budget on the videos that it is fitted on."""
        fitted, rest = self.split()
        if not fitted:
            return None
        rows = list(zip(self.ask(pair.cheap.name, fitted), self.ask(pair.dear.name, fitted), strict=True))
        labels = [self.labels[video] for video in fitted]
        margin = fit_margin(rows, labels, pair, self.budget, self.find_least(fitted))
        if not margin:
            return None
        answers = dict(zip(rest, self.ask(pair.cheap.name, rest), strict=True))
        clips = sum(map(len, answers.values()))
        close = [video for video, cheap in answers.items() if (find_margins(cheap) < margin).any()]
        passed = 0
        for video, dear in zip(close, self.ask(pair.dear.name, close) if close else (), strict=True):
            passed += int((find_margins(answers[video]) < margin).sum())
            answers[video] = combine(answers[video], dear, margin)
        right = frozenset(video for video, found in answers.items() if judge(found, self.labels[video]).right)
        latency = pair.mean_ms(passed / clips)
        return JudgedCascade(pair, margin, passed / clips, latency, tuple(rest), right, self.find_least(rest))

    def find_right(self, name: str, videos: Sequence[int]) -> frozenset[int]:
        """The videos that a candidate classifies rightly."""
        asked = zip(videos, self.ask(name, videos), strict=True)
        return frozenset(video for video, rows in asked if judge(rows, self.labels[video]).right)

    def find_least(self, videos: Sequence[int]) -> int:
        """The number of right answers that the budget asks for on these videos."""
        if self.budget.max_drop is None:
            return 0
        return self.budget.least_right(len(self.find_right(self.reference, videos)), len(videos))


def list_pairs(candidates: Sequence[TimedCandidate], budget: Budget) -> Iterator[Pair]:
    """The fastest candidates of each two networks; the cheap one is fast enough alone."""
    networks = dict.fromkeys(one.network for one in candidates)
    fastest = [min((one for one in candidates if one.network == name), key=lambda one: one.speed) for name in networks]
    for cheap in fastest:
        if budget.latency_ms is None or cheap.latency_ms <= budget.latency_ms:
            yield from (Pair(cheap, dear) for dear in fastest if cheap.latency_ms < dear.latency_ms)


def fit_margin(
    rows: Sequence[tuple[Array, Array]], labels: Sequence[int], pair: Pair, budget: Budget, least: int
) -> float | None:
    """The margin that is best on these videos, whose logits (views, classes) of both networks are `rows`.

    With a latency the one with the most right answers whose mean inference holds it, of several the smallest; without,
    the smallest with the `least` right answers. None where there is no such margin.
    """
    margins = np.concatenate([find_margins(cheap) for cheap, _ in rows])
    tried = np.unique(np.quantile(margins, np.linspace(0, 1, MOST_MARGINS)))
    best: tuple[int, float] | None = None
    for margin in (0.0, *(float(np.nextafter(one, np.inf)) for one in tried)):
        fast = budget.latency_ms is None or pair.mean_ms(float((margins < margin).mean())) <= budget.latency_ms
        answers = zip((combine(*both, margin) for both in rows), labels, strict=True)
        right = sum(judge(found, label).right for found, label in answers) if fast else 0
        if budget.latency_ms is None and right >= least:
            return margin
        if fast and right >= least and (best is None or right > best[0]):
            best = right, margin
    return best[1] if best else None


def combine(cheap: Array, dear: Array, margin: float) -> Array:
    """Logits (views, classes) of whichever network answers each view."""
    return np.where((find_margins(cheap) < margin)[:, None], dear, cheap)


def choose_cascade(
    judged: Sequence[JudgedCascade], winner: TimedCandidate | None, trial: CascadeTrial
) -> JudgedCascade | None:
    """The best cascade that holds the budget, where it beats the plain `winner` on the videos it is judged on."""
    by_speed = trial.budget.latency_ms is None

    def rank(right: int, latency_ms: float) -> tuple[float, float]:
        return (-latency_ms, right) if by_speed else (right, -latency_ms)

    holding = [one for one in judged if one.holds(trial.budget)]
    best = max(holding, key=lambda one: rank(len(one.right), one.latency_ms), default=None)
    if best is None or winner is None:
        return best
    rival = rank(len(trial.find_right(winner.name, best.rest)), winner.latency_ms)
    return best if rank(len(best.right), best.latency_ms) > rival else None
