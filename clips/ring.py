"""The newest frames of a source, in order and in one piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .preprocess import Frame


class FrameRing:
    """The newest `length` frames as a view of one array, which stays as it is while further frames come.

    The array holds twice as many. When it is full the newest are copied to the start of a new one, so that each frame
    is copied once more and nothing that was handed out is overwritten.
    """

    def __init__(self, length: int, size: int) -> None:
        self._length = length
        self._frames = np.empty((2 * length, size, size, 3), np.uint8)
        self._start = self._end = 0

    def __len__(self) -> int:
        return min(self._end - self._start, self._length)

    def append(self, frame: Frame) -> None:
        if self._end == len(self._frames):
            fresh, kept = np.empty_like(self._frames), min(self._length - 1, self._end - self._start)
            fresh[:kept] = self._frames[self._end - kept : self._end]
            self._frames, self._start, self._end = fresh, 0, kept
        self._frames[self._end] = frame
        self._end += 1

    def newest(self, every: int = 1) -> NDArray[np.uint8]:
        """Every `every`th of the newest frames, counted from the oldest of them: (frames, size, size, 3)."""
        return self._frames[self._end - len(self) : self._end : every]

    def clear(self) -> None:
        self._start = self._end
