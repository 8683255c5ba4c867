"""The search for the best candidate within a budget, on as few videos as it takes; it knows nothing of files.

The rule: of the candidates that hold the latency and lose no more than allowed, the one wins that classifies the most
videos rightly, of several the fastest. Without a latency the fastest one wins. The search finds the one that all
candidates on all videos would show, because it drops a candidate only

- that is too slow, or no faster than one of its own network in a wider type,
- whose errors so far are too many for it to win with all the other videos right, or
- that loses against another one on the first videos, in a random order, by McNemar's exact test at LEVEL: the one step
  that may err, with this probability at most.

Errors show early, as videos come first that other candidates got wrong or nearly so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...core.reporter import Progress, no_progress
from ...verification.measures import mcnemar_exact
from .verdict import Answer, Budget, Fate, Standing, TimedCandidate, Trial, Verdict

SHARES = (1 / 16, 1 / 8)  # of the videos, on which all candidates that are fast enough are compared first
FEWEST = 8  # videos of such a share
NEAREST = 3  # candidates that are named where none holds the budget


def search(
    candidates: Sequence[TimedCandidate],
    reference: str,
    budget: Budget,
    trial: Trial,
    progress: Progress = no_progress,
) -> Verdict:
    """Find the winner among `candidates`, of which the one named `reference` says how accurate is accurate enough."""
    race = _Race(trial, progress)
    within = race.drop_dominated(race.drop_slow(candidates, budget))
    least = 0
    if within and budget.max_drop is not None:
        race.finish(reference)
        least = budget.least_right(race.right(reference), trial.videos)
    by_speed = budget.latency_ms is None
    ordered = sorted(within, key=lambda one: one.speed) if by_speed else race.screen(within)
    winner: TimedCandidate | None = None
    for one in ordered:
        if by_speed and winner is not None:
            race.end(one, Fate.UNTRIED, winner)
        elif race.challenge(one, winner, least):
            if winner is not None:
                race.end(winner, Fate.BEATEN, one)
            winner = one
            race.end(one, Fate.WON)
    nearest = () if winner else race.finish_nearest(candidates, ordered)
    standings = tuple(race.standing(one) for one in candidates)
    first = race.first(SHARES[0 if by_speed else -1])
    return Verdict(winner.name if winner else None, standings, nearest, least, first, race.asked)


@dataclass(slots=True)
class _Race:
    """The answers so far, and the fates."""

    trial: Trial
    progress: Progress
    order: list[int] = field(init=False)
    answers: dict[str, dict[int, Answer]] = field(default_factory=dict)
    fates: dict[str, tuple[Fate, str | None]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    asked: int = 0

    def __post_init__(self) -> None:
        self.order = random.Random(self.trial.seed).sample(range(self.trial.videos), self.trial.videos)  # noqa: S311

    def drop_slow(self, candidates: Iterable[TimedCandidate], budget: Budget) -> list[TimedCandidate]:
        within = []
        for one in candidates:
            if budget.latency_ms is not None and one.latency_ms > budget.latency_ms:
                self.end(one, Fate.SLOW)
            else:
                within.append(one)
        return within

    def drop_dominated(self, candidates: Sequence[TimedCandidate]) -> list[TimedCandidate]:
        """Leave those that are faster than all wider types of their network: a narrower one is never meant to be."""
        left = []
        for one in candidates:
            wider = [other for other in candidates if other.network == one.network and other.width > one.width]
            fastest = min(wider, key=lambda other: other.speed, default=None)
            if fastest is not None and fastest.latency_ms <= one.latency_ms:
                self.end(one, Fate.DOMINATED, fastest)
            else:
                left.append(one)
        self.running = {one.name for one in left}
        return left

    def screen(self, candidates: Sequence[TimedCandidate]) -> list[TimedCandidate]:
        """All candidates on the first videos: without those that are clearly behind, the most promising first."""
        left = list(candidates)
        for share in SHARES:
            first = self.first(share)
            for one in left:
                self.ask(one.name, first)
            left = self.rank(left, first)
            left = [one for one in left if one is left[0] or not self.is_behind(one, left[0], first)]
        return left

    def rank(self, candidates: Iterable[TimedCandidate], videos: Sequence[int]) -> list[TimedCandidate]:
        """The most promising first: by right answers to these videos, of equals the fastest."""
        return sorted(candidates, key=lambda one: (-self.count_right(one.name, videos), one.speed))

    def first(self, share: float) -> tuple[int, ...]:
        """The first videos in random order: a share of all, and not too few."""
        return tuple(self.order[: max(FEWEST, math.ceil(share * self.trial.videos))])

    def is_behind(self, one: TimedCandidate, leader: TimedCandidate, videos: Sequence[int]) -> bool:
        """True, and its end, for a candidate that the leader beats by more than chance on these videos."""
        pairs = [(self.answers[leader.name][video].right, self.answers[one.name][video].right) for video in videos]
        lost, gained = pairs.count((True, False)), pairs.count((False, True))
        if lost <= gained or mcnemar_exact(lost, gained) >= self.trial.level:
            return False
        self.end(one, Fate.BEHIND, leader)
        return True

    def challenge(self, one: TimedCandidate, winner: TimedCandidate | None, least: int) -> bool:
        """Ask until the candidate cannot win any more, or has: at the `least`, and better than the `winner`."""
        needed = least
        if winner is not None:
            needed = max(least, self.right(winner.name) + (one.speed > winner.speed))
        self.ask(one.name, self.first(SHARES[0]))
        while self.most(one.name) >= needed and (left := self.hardest_first(one.name)):
            self.ask(one.name, left[: self.trial.step])
        if self.most(one.name) >= needed:
            return True
        self.end(one, *((Fate.INACCURATE, None) if self.most(one.name) < least else (Fate.REFUTED, winner)))
        return False

    def hardest_first(self, name: str) -> list[int]:
        """The videos that a candidate was not asked about, those first on which others were wrong or nearly so."""
        seen, ease = self.answers[name], dict.fromkeys(range(self.trial.videos), 0.0)
        counts = dict.fromkeys(ease, 0)
        for answers in self.answers.values():
            for video, answer in answers.items():
                ease[video] += answer.margin if answer.right else -answer.margin
                counts[video] += 1
        left = (video for video in self.order if video not in seen)
        return sorted(left, key=lambda video: ease[video] / counts[video] if counts[video] else math.inf)

    def finish_nearest(self, candidates: Sequence[TimedCandidate], tried: Sequence[TimedCandidate]) -> tuple[str, ...]:
        """The most accurate of those fast enough, on all videos, then the fastest: for where none holds the budget."""
        best = sorted(tried, key=lambda one: (-self.most(one.name), one.speed))[:NEAREST]
        for one in best:
            self.finish(one.name)
        best.sort(key=lambda one: (-self.right(one.name), one.speed))
        slow = sorted((one for one in candidates if self.fates[one.name][0] is Fate.SLOW), key=lambda one: one.speed)
        return tuple(one.name for one in (*best, *slow)[:NEAREST])

    def finish(self, name: str) -> None:
        """Ask about all videos that are left."""
        for start in range(0, self.trial.videos, self.trial.step):
            self.ask(name, self.order[start : start + self.trial.step])

    def ask(self, name: str, videos: Iterable[int]) -> None:
        seen = self.answers.setdefault(name, {})
        new = [video for video in videos if video not in seen]
        if new:
            seen.update(zip(new, self.trial.ask(name, new), strict=True))
            self.asked += len(new)
            left = sum(self.trial.videos - len(self.answers.get(one, ())) for one in self.running | {name})
            self.progress("comparing candidates", self.asked, self.asked + left)

    def right(self, name: str) -> int:
        return self.count_right(name, self.answers[name])

    def count_right(self, name: str, videos: Iterable[int]) -> int:
        return sum(self.answers[name][video].right for video in videos)

    def most(self, name: str) -> int:
        """The right answers that a candidate can still come to."""
        return self.trial.videos - (len(self.answers[name]) - self.right(name))

    def end(self, one: TimedCandidate, fate: Fate, because_of: TimedCandidate | None = None) -> None:
        self.fates[one.name] = fate, because_of.name if because_of else None
        self.running.discard(one.name)

    def standing(self, one: TimedCandidate) -> Standing:
        return Standing(one, *self.fates[one.name], self.answers.get(one.name, {}))
