"""Clips turned, mirrored and played backwards, with the action that they then show: one rendering, sixteen clips."""

from __future__ import annotations

import numpy as np
from dualexport.clips.scenes import ACTIONS
from numpy.random import Generator

TRANSPOSED = {
    "moving left": "moving up",
    "moving up": "moving left",
    "moving right": "moving down",
    "moving down": "moving right",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
}
MIRRORED = {
    "moving left": "moving right",
    "moving right": "moving left",
    "turning clockwise": "turning counter-clockwise",
    "turning counter-clockwise": "turning clockwise",
}
REVERSED = {
    **MIRRORED,
    "moving up": "moving down",
    "moving down": "moving up",
    "approaching": "receding",
    "receding": "approaching",
}


def augment(clip: np.ndarray, label: int, random: Generator) -> tuple[np.ndarray, int]:
    """Uint8 (frames, size, size, 3) and its action's number, changed by chance; colours change places, too."""
    action = ACTIONS[label]
    transposed, mirrored, played_backwards = random.random(3) < 0.5
    clip = np.asarray(clip)
    if transposed:
        clip, action = clip.transpose(0, 2, 1, 3), TRANSPOSED.get(action, action)
    if mirrored:
        clip, action = clip[:, :, ::-1], MIRRORED.get(action, action)
    if played_backwards:
        clip, action = clip[::-1], REVERSED.get(action, action)
    return np.ascontiguousarray(clip[..., random.permutation(3)]), ACTIONS.index(action)
