"""The terms of a search: candidates by latency, the budget, answers to videos, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

LEVEL = 1e-3  # of the paired test by which a candidate is ended early
STEP = 8  # videos between two looks


@dataclass(frozen=True, slots=True)
class TimedCandidate:
    """A candidate's latency, and its network; `width` orders the types of one network, the wider the larger."""

    name: str
    latency_ms: float
    network: str = ""
    width: int = 0

    @property
    def speed(self) -> tuple[float, str]:
        """The order from the fastest to the slowest."""
        return self.latency_ms, self.name


@dataclass(frozen=True, slots=True)
class Answer:
    """A candidate's answer to one video: right or not, and how far it is from its second answer."""

    right: bool
    margin: float


Ask = Callable[[str, Sequence[int]], Sequence[Answer]]  # a candidate's name and videos by number


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits: milliseconds an inference, and the accuracy lost against the reference, a share of all videos."""

    latency_ms: float | None = None
    max_drop: float | None = None

    def least_right(self, reference: int, videos: int) -> int:
        """The videos that have to be classified rightly where the reference classifies `reference` rightly."""
        return 0 if self.max_drop is None else max(0, math.ceil(reference - self.max_drop * videos - 1e-9))


@dataclass(frozen=True, slots=True)
class Trial:
    """The labelled videos, by number, and how to ask about them: `step` between two looks, `level` of the test."""

    ask: Ask
    videos: int
    step: int = STEP
    level: float = LEVEL
    seed: int = 0


class Fate(str, Enum):
    """The end of a candidate in the search."""

    WON = "wins"
    SLOW = "over the latency"
    DOMINATED = "no faster than a wider type"
    BEHIND = "behind on the first videos"
    REFUTED = "cannot win any more"
    INACCURATE = "loses more than allowed"
    BEATEN = "beaten on all videos"
    UNTRIED = "slower than the winner"


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate in the end: its fate with the candidate that it is due to, if one, and its answers by video."""

    candidate: TimedCandidate
    fate: Fate
    because_of: str | None
    answers: Mapping[int, Answer]

    @property
    def right(self) -> int:
        """The number of videos classified rightly, so far."""
        return sum(answer.right for answer in self.answers.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The winner, or None and the `nearest` candidates, and all standings.

    `first` are the videos, drawn by chance, that every candidate was asked about that was asked at all. `least_right`
    is the number of right answers that the budget asks for, `asked` that of all answers given.
    """

    winner: str | None
    standings: tuple[Standing, ...]
    nearest: tuple[str, ...]
    least_right: int
    first: tuple[int, ...]
    asked: int

    def standing(self, name: str) -> Standing:
        """The standing of a candidate by name."""
        return next(one for one in self.standings if one.candidate.name == name)
