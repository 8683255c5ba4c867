"""Clips of video files with their frames as GStreamer decodes and scales them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import ClipError
from ..core.types import Clip
from .addresses import Source
from .ffmpeg_frames import DECODER_ERRORS
from .gstreamer_frames import GStreamerFrames
from .pacing import Pace
from .preprocess import Frame

TIMEOUT_SECONDS = 30.0


def show_by_gstreamer(path: Path, clips: Sequence[Clip], size: int) -> list[Clip]:
    """The clips of one video, `shown` as GStreamer gives the frames that they were made of; raises ClipError."""
    frames = _read_frames(path, {number for clip in clips for number in clip.frame_indices}, size)
    return [replace(clip, shown=np.stack([frames[number] for number in clip.frame_indices])) for clip in clips]


def _read_frames(path: Path, wanted: Collection[int], size: int) -> dict[int, Frame]:
    reader = GStreamerFrames(Source(path.name, str(path.absolute())), size, Pace(), TIMEOUT_SECONDS)
    frames: dict[int, Frame] = {}
    try:
        with closing(iter(reader)) as decoded:
            for kept in decoded:
                if kept.number in wanted:
                    frames[kept.number] = kept.picture
                if len(frames) == len(wanted):
                    return frames
    except DECODER_ERRORS as error:
        reason = reader.describe(error)
    else:
        reason = f"{reader.count} frames come, frame {max(wanted)} is needed"
    raise ClipError(
        f"{path.name} cannot be decoded by GStreamer: {reason}",
        fix="check that `stream --decoder gstreamer` plays it, or pass --skip-unreadable to go on without it",
    )
