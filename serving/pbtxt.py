"""Protocol buffers' text format, as Triton reads it from config.pbtxt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

Value = Union[str, bool, int, "Symbol", "Message", Sequence["Value"]]
Message = Mapping[str, Value]

ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of an enumeration's value, which is written without quotation marks."""

    name: str


def write_message(message: Message, indent: int = 0) -> str:
    """The fields of `message`, one a line; a sequence is a repeated field."""
    return "".join(_write_field(name, value, " " * indent) for name, value in message.items())


def _write_field(name: str, value: Value, margin: str) -> str:
    if isinstance(value, Mapping):
        return f"{margin}{name} {{\n{write_message(value, len(margin) + 2)}{margin}}}\n"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(_write_field(name, item, margin) for item in value)
    return f"{margin}{name}: {_write_scalar(value)}\n"


def _write_scalar(value: str | bool | int | Symbol) -> str:
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, str):
        return '"' + "".join(ESCAPES.get(character, character) for character in value) + '"'
    return str(value).lower()
