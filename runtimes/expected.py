"""Clips with the logits that the network gives for them: a reference for where the network itself cannot run."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from ..core.errors import ClipError, RunnerError
from ..core.logit_store import key_of
from ..core.runner import DeviceTime, Runner, infer_logits
from ..core.types import Array, Clip, Preprocessing, TensorSpec

FILE_NAME = "expected.npz"
MAX_BYTES = 1 << 30


def write_expected(path: Path, reference: Runner, clips: Iterable[Clip]) -> int:
    """Run `reference` on clips of uint8 frames and store both; returns how many clips that were."""
    kept = [clip for clip in clips if clip.data.dtype == np.uint8]
    if not kept:
        raise ClipError("no clip of raw frames to store expected outputs for", fix="give videos with --clips")
    logits = infer_logits(reference, kept)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            clips=np.stack([clip.data for clip in kept]),
            logits=logits.astype(np.float32),
            names=np.array([clip.name for clip in kept]),
            reference=np.array(reference.name),
        )
    return len(kept)


class ExpectedRunner:
    """Answers the clips of an expected.npz with the logits that are stored for them, and no other.

    Raises RunnerError for a file that is missing or is not one. `clips` are the stored ones.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        try:
            _require_bounded(path)
            with np.load(path, allow_pickle=False) as stored:
                frames, logits, names = stored["clips"], stored["logits"], stored["names"]
                reference = str(stored["reference"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise RunnerError(
                f"{path}: no expected outputs: {error}", fix="`dualexport bundle` stores them; or pass --reference onnx"
            ) from error
        if frames.dtype != np.uint8 or frames.ndim != 5 or logits.ndim != 2 or len(frames) != len(logits):
            raise RunnerError(f"{path}: holds {frames.dtype} {frames.shape}", fix="make the bundle again")
        self.name = f"expected outputs of {reference}"
        self.inputs = (TensorSpec("clip", "uint8", (1, *frames.shape[1:])),)
        self.outputs = (TensorSpec("logits", "float32", (1, logits.shape[1])),)
        self.clips = tuple(
            Clip(str(name), number, clip, preprocessing)
            for number, (name, clip) in enumerate(zip(names, frames, strict=True))
        )
        self._logits = {key_of(clip): row for clip, row in zip(frames, logits, strict=True)}

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The stored logits of one clip."""
        row = self._logits.get(key_of(feeds["clip"][0]))
        if row is None:
            raise RunnerError("no outputs are stored for this clip", fix="leave --clips out with --reference expected")
        return {"logits": row[None]}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        """Looks the clip up; there is nothing to time."""
        self.infer(feeds)
        yield lambda: None

    def __enter__(self) -> ExpectedRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def _require_bounded(path: Path) -> None:
    """Raise ValueError for a file that unpacks to more than clips need: it may come from a stranger."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
