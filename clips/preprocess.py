"""Frames as the published test pipeline takes them: which ones, and at what size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
BLOCK = 64  # pixels
LONGEST = 16  # times the short side: of a longer frame only the middle is looked at, before it is resized


def sample_frames(total: int, frames: int, stride: int, views: int) -> tuple[tuple[int, ...], ...]:
    """Frame indices of `views` evenly placed views into a video of `total` frames, wrapping round where it is short.

    The published test pipeline's sampling (SampleFrames in test mode): each view is centred in its share of the
    start positions that leave room for `frames` x `stride`.
    """
    spare = total - frames * stride + 1
    starts = [int((view + 0.5) * spare / views) if spare > 0 else 0 for view in range(views)]
    return tuple(tuple((start + step * stride) % total for step in range(frames)) for start in starts)


def resize_and_crop(frame: Frame, size: int, whole: tuple[int, int] | None = None) -> Frame:
    """Uint8 RGB (height, width, 3) -> (size, size, 3): short side to `size` (OpenCV bilinear), centre crop.

    `whole` is the height and width of the frame of which only `find_seen` is given.
    """
    frame = frame if whole else _cut_ribbon(frame)
    height, width = whole or frame.shape[:2]
    target_height, target_width = _resized(height, width, size)
    if min(height, width) != size:
        across, down = target_width / width, target_height / height
        frame = cv2.resize(frame, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    top, left = (target_height - size) // 2, (target_width - size) // 2
    return frame[top : top + size, left : left + size]


def find_seen(height: int, width: int, size: int) -> tuple[int, int]:
    """The rows and columns of a frame, from its first on, beyond which `resize_and_crop` does not look."""
    if max(height, width) > LONGEST * min(height, width):
        return height, width
    target_height, target_width = _resized(height, width, size)
    return _find_end(height, target_height, size), _find_end(width, target_width, size)


def _resized(height: int, width: int, size: int) -> tuple[int, int]:
    scale = size / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _find_end(length: int, target: int, size: int) -> int:
    """The end of what the crop sees of a side, on a border between blocks of pixels that are converted together."""
    last = ((target - size) // 2 + size) * length / target + 2  # and the neighbour that bilinear resizing takes in
    return min(length, -(-int(last + 1) // BLOCK) * BLOCK)


def _cut_ribbon(frame: Frame) -> Frame:
    """The middle of a frame that is many times as long as wide, which as a whole would grow to gigabytes."""
    height, width = frame.shape[:2]
    most = LONGEST * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return frame[top : height - top, left : width - left]
