"""Logits of all runners for one batch of clips, in memory and as bytes that keep every bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from ..core.types import Array, Clip


@dataclass(frozen=True, slots=True)
class View:
    """A clip's name, view and label, without its pixels."""

    name: str
    view: int
    label: str | None = None

    @classmethod
    def of(cls, clip: Clip) -> View:
        """Leave the pixels out."""
        return cls(clip.name, clip.view, clip.label)


@dataclass(frozen=True, slots=True)
class BatchLogits:
    """Logits (clips, classes) of the reference and of each candidate, or the reason why a candidate has none.

    `frames` are SHA-256 digests of the clips' uint8 frames, empty for a clip stored as float32, and none where nobody
    asked for them. `skipped` are videos that could not be read, with the reason.
    """

    clips: tuple[View, ...]
    reference: Array
    candidates: Mapping[str, Array]
    failures: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[bytes, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def join_logits(parts: Sequence[BatchLogits], skipped: tuple[tuple[str, str], ...] = ()) -> BatchLogits:
    """Put parts of one batch together; a candidate that failed in one of them has no logits of the batch."""
    if not parts:
        return BatchLogits((), np.zeros((0, 0), np.float32), {}, skipped=skipped)
    failures: dict[str, str] = {}
    for part in reversed(parts):
        failures |= part.failures
    return BatchLogits(
        clips=tuple(clip for part in parts for clip in part.clips),
        reference=np.concatenate([part.reference for part in parts]),
        candidates={
            name: np.concatenate([part.candidates[name] for part in parts])
            for name in parts[0].candidates
            if name not in failures
        },
        failures=failures,
        frames=tuple(digest for part in parts for digest in part.frames),
        skipped=skipped,
    )


def pack_logits(logits: BatchLogits) -> bytes:
    """MessagePack, in which an array is its shape and its float32 values."""
    return msgspec.msgpack.encode(logits, enc_hook=_pack_array)


def unpack_logits(data: bytes) -> BatchLogits:
    """Read what `pack_logits` wrote. Raises ValueError for bytes that are something else."""
    return msgspec.msgpack.decode(data, type=BatchLogits, dec_hook=_unpack_array)


def _pack_array(values: Array) -> dict[str, Any]:
    return {"shape": values.shape, "values": values.astype("<f4").tobytes()}


def _unpack_array(_: type[Array], packed: Mapping[str, Any]) -> Array:
    values: Array = np.frombuffer(packed["values"], "<f4").reshape(packed["shape"])
    return values
