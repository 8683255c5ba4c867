"""Frames as the published test pipeline takes them: which ones, and at what size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
LONGEST = 16  # times the short side: of a longer frame only the middle is looked at, before it is resized


def sample_frames(total: int, frames: int, stride: int, views: int) -> tuple[tuple[int, ...], ...]:
    """Frame indices of `views` evenly placed views into a video of `total` frames, wrapping round where it is short.

    The published test pipeline's sampling (SampleFrames in test mode): each view is centred in its share of the
    start positions that leave room for `frames` x `stride`.
    """
    spare = total - frames * stride + 1
    starts = [int((view + 0.5) * spare / views) if spare > 0 else 0 for view in range(views)]
    return tuple(tuple((start + step * stride) % total for step in range(frames)) for start in starts)


def resize_and_crop(frame: Frame, size: int) -> Frame:
    """Uint8 RGB (height, width, 3) -> (size, size, 3): short side to `size` (OpenCV bilinear), centre crop."""
    frame = _cut_ribbon(frame)
    height, width = frame.shape[:2]
    scale = size / min(height, width)
    if min(height, width) != size:
        target = (int(width * scale + 0.5), int(height * scale + 0.5))
        frame = cv2.resize(frame, target, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        height, width = frame.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return frame[top : top + size, left : left + size]


def _cut_ribbon(frame: Frame) -> Frame:
    """The middle of a frame that is many times as long as wide, which as a whole would grow to gigabytes."""
    height, width = frame.shape[:2]
    most = LONGEST * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return frame[top : height - top, left : width - left]
