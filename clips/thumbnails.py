"""Frames of clips as small pictures inside a report."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable

import cv2
import numpy as np

from ..core.types import Array, Clip
from .source import ClipSource

SHOWN_FRAMES = 4
SIDE = 112  # pixels
JPEG_QUALITY = 70

ClipKey = tuple[str, int]  # name and view


def draw_thumbnails(clips: Iterable[Clip], wanted: Collection[ClipKey]) -> dict[ClipKey, str]:
    """Data URLs of the wanted clips that `clips` has; of a source, no other video is decoded."""
    if isinstance(clips, ClipSource):
        names = {name for name, _ in wanted}
        videos = [video for video in clips.videos if any(_is_of(name, video.name) for name in names)]
        clips = clips.of(videos) if videos else ()
    return {key: _draw(clip) for clip in clips if (key := (clip.name, clip.view)) in wanted}


def _is_of(clip: str, video: str) -> bool:
    return clip == video or clip.startswith(f"{video}[")  # the clips of an array file are numbered


def _draw(clip: Clip) -> str:
    frames = _pixels(clip)
    chosen = np.linspace(0, len(frames) - 1, SHOWN_FRAMES).round().astype(int)
    strip = np.concatenate(
        [cv2.resize(frames[index], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for index in chosen], 1
    )
    _, jpeg = cv2.imencode(".jpg", strip[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode('ascii')}"


def _pixels(clip: Clip) -> Array:
    """Uint8 RGB (frames, height, width, 3), also of a clip that was stored normalized."""
    if clip.data.dtype == np.uint8:
        return clip.data
    restored: Array = clip.data.transpose(1, 2, 3, 0) * clip.preprocessing.std + clip.preprocessing.mean
    pixels: Array = restored.round().clip(0, 255).astype(np.uint8)
    return pixels
