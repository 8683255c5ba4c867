"""A ring of frames gives its newest ones, in order, whatever comes later."""

from __future__ import annotations

import numpy as np
from dualexport.clips.ring import FrameRing
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.integers(1, 6)
ACTIONS = st.lists(st.integers(0, 9), max_size=60)  # 0: clear


@given(LENGTHS, st.integers(1, 3), ACTIONS)
def test_a_view_holds_the_newest_frames_and_keeps_them(length: int, every: int, actions: list[int]) -> None:
    ring, expected = FrameRing(length, 2), list[int]()
    views = []
    for number, action in enumerate(actions):
        if action == 0:
            ring.clear()
            expected.clear()
        else:
            ring.append(np.full((2, 2, 3), number, np.uint8))
            expected.append(number)
        newest = expected[-length:]
        assert len(ring) == len(newest)
        views.append((ring.newest(every), newest[::every]))
    for view, numbers in views:
        assert view[:, 0, 0, 0].tolist() == numbers


def test_a_window_is_a_view_in_one_piece() -> None:
    ring = FrameRing(4, 8)
    for _ in range(11):
        ring.append(np.zeros((8, 8, 3), np.uint8))
        view = ring.newest()
        assert view.base is not None
        assert view.flags.c_contiguous
