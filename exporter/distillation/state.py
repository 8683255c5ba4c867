"""The state of a run as a file, from which the same command goes on; nothing in it is executed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ...core.errors import OutputError
from ...core.files import staged_path
from ...core.reading import FileKind
from .trainer import Distillation, Point

SECONDS = 120.0  # between two checkpoints
STATE_FORMAT = 1
KEY = "dualexport"  # of the files' metadata
STATE = FileKind("the state of a distillation", OutputError, "remove it, and the run begins anew", max_bytes=64 << 30)


class StateDocument(msgspec.Struct, frozen=True):
    """The plain values of a run's state; its tensors lie beside them."""

    format: Annotated[int, msgspec.Meta(ge=1, le=STATE_FORMAT)]
    run: dict[str, Any]
    step: Annotated[int, msgspec.Meta(ge=0)]
    seconds: float
    losses: list[float]
    curve: list[Point]


class StateFile:
    """The state of the run that `run` describes, at `path`; written now and then while it trains."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self._run = msgspec.json.decode(msgspec.json.encode(run))
        self._saved_at = time.monotonic()

    def restore(self, distillation: Distillation) -> bool:
        """Go on where the run was when it was saved; False where nothing was.

        Raises OutputError for a file that cannot be read, or is of another run.
        """
        if not self.path.exists():
            return False
        content = STATE.read_bytes(self.path)
        try:
            with safe_open(self.path, "pt") as file:
                text = (file.metadata() or {}).get(KEY, "")
            document = msgspec.json.decode(text, type=StateDocument)
            tensors = load(content)
        except (SafetensorError, msgspec.MsgspecError) as error:
            raise STATE.refuse(self.path, str(error)) from error
        if document.run != self._run:
            other = [key for key in self._run if self._run[key] != document.run.get(key)]
            raise OutputError(
                f"{self.path} is the state of a run with other {', '.join(other)}",
                fix="give the same options again, or remove it to begin anew",
            )
        distillation.restore(document.step, document.seconds, document.losses, document.curve, tensors)
        return True

    def save_if_due(self, distillation: Distillation) -> None:
        """Save the state where the last time is long ago. Raises OutputError."""
        if time.monotonic() - self._saved_at >= SECONDS:
            self.save(distillation)

    def save(self, distillation: Distillation) -> None:
        """Save the state. Raises OutputError."""
        one = distillation
        document = StateDocument(STATE_FORMAT, self._run, one.step, one.seconds, one.losses, one.curve)
        content = pack_tensors(one.tensors(), {KEY: msgspec.json.encode(document).decode()})
        with staged_path(self.path) as staged:
            staged.write_bytes(content)
        self._saved_at = time.monotonic()


def pack_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The content of a .safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
