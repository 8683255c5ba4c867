"""The record in a distilled checkpoint: the selections and the clips that its network was trained for.

It is a JSON text in the metadata of the .safetensors file. Other checkpoints have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from safetensors import SafetensorError, safe_open

from ..core.errors import CheckpointError, SelectionError
from ..core.selection import Selection, parse_selections, write_selections

RECORD_FORMAT = 1
KEY = "dualexport"  # of the file's metadata
Positive = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]


class DistilledRecord(msgspec.Struct, frozen=True):
    """The student: its selections in their notation, its clips, and its class names where they are known.

    `teacher` is the SHA-256 of the checkpoint that it learned from, None for one of random weights.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=RECORD_FORMAT)]
    selections: Text
    frames: Positive
    stride: Positive
    teacher: Text | None = None
    labels: Annotated[tuple[Text, ...], msgspec.Meta(max_length=100_000)] = ()

    @property
    def parsed(self) -> tuple[Selection, ...]:
        """The selections. Raises SelectionError."""
        return parse_selections(self.selections) if self.selections else ()

    def to_metadata(self) -> dict[str, str]:
        """Return it as a file's metadata holds it."""
        return {KEY: msgspec.json.encode(self).decode(), "format": "pt"}


def read_record(path: Path) -> DistilledRecord | None:
    """Read the record of a checkpoint, None where it has none. Raises CheckpointError for one that cannot be read."""
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
        record = None if text is None else msgspec.json.decode(text, type=DistilledRecord)
        if record is not None:
            record.parsed  # noqa: B018  # is understood
    except SafetensorError:
        return None  # said where the tensors are read
    except (msgspec.MsgspecError, SelectionError) as error:
        raise CheckpointError(
            f"{path.name}: its record of distillation is not understood: {error}",
            fix="upgrade dualexport, or distil again with `dualexport distill`",
        ) from error
    return record


def choose_selections(
    path: Path, record: DistilledRecord | None, asked: tuple[Selection, ...]
) -> tuple[Selection, ...]:
    """The selections to load the checkpoint with; raises CheckpointError for others than it was distilled to."""
    trained = record.parsed if record is not None else ()
    if not trained or asked == trained:
        return asked
    if asked:
        raise CheckpointError(
            f"{path.name} was distilled to {write_selections(trained)}, not to {write_selections(asked)}",
            fix="leave --stts out, or distil the whole network to these ratios",
        )
    return trained
