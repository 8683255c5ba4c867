"""What came of a portion of the clips, as bytes that keep every bit: for a journal, and with nothing pickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.types import Array
from .compare import GroupLogits
from .tally import View

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class PortionLogits:
    """The logits of some consecutive whole videos, and the names of those that were skipped, with the reasons."""

    groups: tuple[GroupLogits, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def clips(self) -> int:
        return sum(len(group.clips) for group in self.groups)


def pack_portion(portion: PortionLogits, key: str) -> bytes:
    """A JSON head, its length before it, and the float32 logits behind it: group by group, the reference first."""
    head = {
        "key": key,
        "skipped": portion.skipped,
        "groups": [
            {
                "clips": [(clip.name, clip.view, clip.label) for clip in group.clips],
                "frames": [digest.hex() for digest in group.frames],
                "classes": group.reference.shape[1],
                "artifacts": list(group.artifacts),
                "failures": dict(group.failures),
            }
            for group in portion.groups
        ],
    }
    text = json.dumps(head).encode()
    rows = [row for group in portion.groups for row in (group.reference, *group.artifacts.values())]
    return b"".join([_LENGTH.pack(len(text)), text, *(row.astype("<f4").tobytes() for row in rows)])


def unpack_portion(data: bytes) -> tuple[str, PortionLogits]:
    """The key and the portion. Raises ValueError, KeyError or TypeError for bytes that are none."""
    (length,) = _LENGTH.unpack_from(data)
    head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    values = np.frombuffer(data, "<f4", offset=_LENGTH.size + length)
    wanted = sum(len(one["clips"]) * int(one["classes"]) * (1 + len(one["artifacts"])) for one in head["groups"])
    if wanted != values.size:
        raise ValueError(f"{values.size} logits, not {wanted}")
    parts = iter(_split(values, head["groups"]))
    groups = tuple(
        GroupLogits(
            clips=tuple(View(str(name), int(view), label) for name, view, label in one["clips"]),
            reference=next(parts),
            artifacts={str(name): next(parts) for name in one["artifacts"]},
            failures=one["failures"],
            frames=tuple(bytes.fromhex(digest) for digest in one["frames"]),
        )
        for one in head["groups"]
    )
    return head["key"], PortionLogits(groups, tuple((str(name), str(why)) for name, why in head["skipped"]))


def _split(values: Array, groups: list[dict[str, list[str]]]) -> Iterator[Array]:
    """Logits (clips, classes) of one runner after the other."""
    start = 0
    for group in groups:
        shape = (len(group["clips"]), int(group["classes"]))  # type: ignore[call-overload]  # a number, by JSON
        for _ in range(1 + len(group["artifacts"])):
            yield values[start : start + shape[0] * shape[1]].reshape(shape)
            start += shape[0] * shape[1]
