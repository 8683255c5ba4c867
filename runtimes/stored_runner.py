"""Runners that answer with logits computed before: stored ones of a reference, or those of a pass before this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..core.errors import RunnerError, printable
from ..core.logit_store import FIX, LogitStore, ReferenceInfo, StoredLogits, key_of
from ..core.runner import Runner
from ..core.types import LOGITS, Array, Clip, Preprocessing, TensorSpec


class Lookup(Protocol):
    """Finds the logits of a clip by the key of its frames."""

    def find(self, frames: bytes) -> Array | None: ...
    def close(self) -> None: ...


class StoredRunner:
    """Answers a clip of uint8 frames with the logits that are stored for it, and no other clip.

    `clips` are those that came along with the logits, if any did; `fix` is for a clip without.
    """

    def __init__(self, name: str, preprocessing: Preprocessing, classes: int, stored: Lookup, fix: str) -> None:
        self.name = name
        shape = (1, preprocessing.frames, preprocessing.size, preprocessing.size, 3)
        self.inputs = (TensorSpec("clip", "uint8", shape),)
        self.outputs = (TensorSpec(LOGITS, "float32", (1, classes)),)
        self.clips: tuple[Clip, ...] = ()
        self._stored = stored
        self._fix = fix

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Look one clip up; RunnerError where nothing is stored for it."""
        row = self._stored.find(key_of(feeds["clip"][0]))
        if row is None:
            raise RunnerError(
                "no logits are stored for these frames (of another video, view, or version of the decoder)",
                fix=self._fix,
            )
        return {LOGITS: row[None]}

    def __enter__(self) -> StoredRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stored.close()


def open_stored(path: Path, network: Mapping[str, Any], preprocessing: Preprocessing) -> StoredRunner:
    """Open the logits of an earlier run, a reference for where PyTorch is not installed, on the same clips.

    Raises RunnerError for a file that is missing, is none, or is of another network than `network` describes.
    """
    stored = StoredLogits(path)
    if stored.about.network != ReferenceInfo.of(network, "", 0).network:
        stored.close()
        raise RunnerError(f"{path}: stored for another network", fix=FIX)
    name = f"stored outputs of {printable(stored.about.reference)}"
    return StoredRunner(name, preprocessing, stored.about.classes, stored, FIX)


class CachedRunner:
    """Computes each batch once with `runner`, which stays open when this is closed; for many passes over clips."""

    def __init__(self, runner: Runner) -> None:
        self.name, self.inputs, self.outputs = runner.name, runner.inputs, runner.outputs
        self._runner = runner
        self._store = LogitStore(None, {})

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the first output of a batch, computed or as it was computed before."""
        output, key = self.outputs[0], key_of(feeds[self.inputs[0].name])
        row = self._store.find(key)
        if row is None:
            found = self._runner.infer(feeds)[output.name]
            self._store.add({key: found})
            return {output.name: found}
        return {output.name: row.reshape(-1, *output.shape[1:])}

    def __enter__(self) -> CachedRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
