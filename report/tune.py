"""The document of a search for the best network: all that JSON, HTML, Markdown and the terminal show of it."""

from __future__ import annotations

import msgspec

from .document import PairedTest, Share

FORMAT = 1  # raised when a reader of the former would misread it
WON = "wins"


class TuneBudget(msgspec.Struct, frozen=True):
    """The limits: milliseconds an inference, points of accuracy against the reference, so many videos right."""

    latency_ms: float | None
    max_drop: float | None
    least_right: int | None


class TuneCandidate(msgspec.Struct, frozen=True):
    """A candidate: its latency, its end in the search, and its accuracy.

    `asked` is the number of videos it was asked about, `right` that of right answers. `accuracy` is on `videos` of
    them: on all, or on those that were drawn by chance before any was chosen; of a cascade on those that its margin was
    not fitted on. `drop` is in points against the reference on the same videos, `paired` the test against the winner.
    """

    name: str
    network: str
    form: str
    latency_ms: float | None
    fate: str
    asked: int
    right: int
    videos: int
    accuracy: Share | None
    drop: float | None
    paired: PairedTest | None
    misses: tuple[str, ...] = ()


class TuneDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer and how it was come by. `exhaustive` is the number of answers that all candidates on all videos take.

    `sentences` say the answer and how sure it is, `caveats` what it does not cover, `steps` are the commands that make
    the winner, `nearest` the candidates that come nearest where nothing holds the budget.
    """

    format: int
    device: str
    latency: str
    reference: str
    budget: TuneBudget
    videos: int
    asked: int
    exhaustive: int
    winner: str | None
    artifact: str | None
    candidates: tuple[TuneCandidate, ...]
    nearest: tuple[str, ...]
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    steps: tuple[str, ...]
    tools: dict[str, str]

    def find(self, name: str) -> TuneCandidate:
        """Return a candidate by name."""
        return next(one for one in self.candidates if one.name == name)
