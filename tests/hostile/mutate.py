"""Changes a valid file a little, so that it is damaged where a reader has come to trust it."""

from __future__ import annotations

import json
import random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, -1e308, 1e-320),
    *(float("nan"), float("inf"), "", "x", "x" * 5000, "../up", "/etc/passwd", "\0", "\u202e\x1b[31m", "\ud800", "1e9"),
    *([], {}, [[]], {"a": {"a": 1}}, [0] * 50, ["x"] * 50),
)


def mutate(content: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """Another file, a few bytes (or, of JSON, a value or a key) from `content`."""
    if is_json and rng.random() < 0.7:
        return _mutate_json(content, rng)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(changed) or 1)
        match rng.randrange(6):
            case 0 if changed:
                changed[place] ^= 1 << rng.randrange(8)
            case 1 if changed:
                changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                changed[place : place + rng.randrange(1, 64)] = b""
            case 3:
                changed[place:place] = rng.randbytes(rng.randrange(1, 16))
            case 4:
                changed[place : place + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7))
            case _:
                del changed[place:]
    return bytes(changed)


def _mutate_json(content: bytes, rng: random.Random) -> bytes:
    document = json.loads(content)
    if rng.random() < 0.05:
        return b"[" * 100_000
    places = list(_walk(document))
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder, list) and rng.random() < 0.2:
        holder.append(holder[key])
    else:
        holder[key] = rng.choice(ODD_VALUES)
    return json.dumps(document).encode()


def _walk(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from _walk(inner)
