"""The frames of a source that windows are made of: numbered as they come, or in even steps of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

LONGEST_HOLE = 60.0  # seconds without a frame; over a longer one, or one back in time, the clock is set anew
Picture = TypeVar("Picture")


@dataclass(frozen=True, slots=True)
class Pace:
    """The frames that are kept: each whose number `step` divides, at `fps` frames a second (None: as they come)."""

    step: int = 1
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Paced(Generic[Picture]):
    """A frame, its number and its time in seconds; where a camera is slower than the pace, one frame has several."""

    number: int
    seconds: float
    picture: Picture


class Pacer(Generic[Picture]):
    """Frames in, the kept ones out, with numbers and times. `count` is the number of frames that there were so far.

    At a given pace frame n is the first one that came nearest to n steps of time, or, where none did, the one before.
    """

    def __init__(self, pace: Pace) -> None:
        self.count = 0
        self._pace = pace
        self._origin = 0.0  # seconds at which frame 0 is
        self._before: Picture | None = None

    def take(self, seconds: float, picture: Picture) -> Iterator[Paced[Picture]]:
        """The kept frames that this one, which has its time, adds."""
        before, first, end = self._before, self.count, self._place(seconds)
        self.count = max(first, end)
        for number in range(first + -first % self._pace.step, end, self._pace.step):
            shown = picture if number == end - 1 or before is None else before
            yield Paced(number, self._origin + number / self._pace.fps if self._pace.fps else seconds, shown)
        if self._pace.fps:
            self._before = picture

    def _place(self, seconds: float) -> int:
        """The number after this frame's."""
        fps = self._pace.fps
        if fps is None:
            return self.count + 1
        late = seconds - self._origin - self.count / fps  # against the next frame's time
        if self._before is None or not -1.0 <= late <= LONGEST_HOLE:
            self._origin = seconds - self.count / fps
            return self.count + 1
        return int((seconds - self._origin) * fps + 0.5) + 1
