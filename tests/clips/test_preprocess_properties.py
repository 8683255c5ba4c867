"""Frames are sampled alike from whatever video."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from dualexport.clips.preprocess import resize_and_crop, sample_frames
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.integers(1, 40)


@given(st.integers(1, 5000), COUNTS, st.integers(1, 8), st.integers(1, 10))
def test_views_are_in_the_video_evenly_placed_and_at_the_stride(
    total: int, frames: int, stride: int, views: int
) -> None:
    sampled = sample_frames(total, frames, stride, views)
    assert [len(view) for view in sampled] == [frames] * views
    assert all(0 <= index < total for view in sampled for index in view)
    assert all((second - first) % total == stride % total for view in sampled for first, second in pairwise(view))
    starts = [view[0] for view in sampled]
    assert starts == sorted(starts)
    if total >= frames * stride:
        assert all(view == tuple(sorted(view)) for view in sampled)
        middle = [start + frames * stride / 2 for start in starts]
        assert abs(sum(middle) / views - total / 2) <= 2


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 48))
def test_a_frame_becomes_a_square_of_its_own_colours(height: int, width: int, size: int) -> None:
    frame = np.random.default_rng(height * 100 + width).integers(50, 200, (height, width, 3)).astype(np.uint8)
    square = resize_and_crop(frame, size)
    assert square.shape == (size, size, 3)
    assert frame.min() <= square.min() <= square.max() <= frame.max()
