"""TODO."""

from __future__ import annotations

import hashlib

import numpy as np

from .types import Array


def key_of(clip: Array) -> bytes:
    """SHA-256 of the uint8 frames of a clip, by which its logits are found."""
    return hashlib.sha256(np.ascontiguousarray(clip).tobytes()).digest()
