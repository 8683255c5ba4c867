"""Values as JSON has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec


def to_plain(value: Any) -> Any:
    """`value` in dictionaries, lists, strings, numbers and None; NaN and infinity, which JSON does not have, are None.

    Dataclasses, structs, enums and paths become what they hold; sets are sorted.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, msgspec.Struct):
        return to_plain(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(to_plain, value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def to_json(value: Any) -> str:
    """`value` as an indented JSON text of ASCII characters, with a newline at its end."""
    return json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n"
