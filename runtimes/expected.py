"""Clips with the logits that the network gives for them: a reference for where the network itself cannot run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.errors import ClipError, RunnerError, printable
from ..core.logit_store import LogitStore, key_of
from ..core.npy import read_arrays
from ..core.reading import FileKind
from ..core.runner import Runner, infer_logits
from ..core.types import Array, Clip, Preprocessing
from .stored_runner import StoredRunner

FILE_NAME = "expected.npz"
MAX_BYTES = 1 << 30
EXPECTED = FileKind(
    "a file of expected outputs",
    RunnerError,
    "`dualexport bundle` stores them; or pass --reference onnx",
    max_bytes=MAX_BYTES,
)


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


def read_expected(path: Path, preprocessing: Preprocessing) -> StoredRunner:
    """Open an expected.npz: a runner of its logits, with its clips.

    Raises RunnerError for a file that is missing or is not one.
    """
    stored = read_arrays(path, EXPECTED, MAX_BYTES)
    if missing := sorted({"clips", "logits", "names", "reference"} - stored.keys()):
        raise EXPECTED.refuse(path, f"it has no {missing[0]}")
    frames, logits, names = stored["clips"], stored["logits"], stored["names"]
    _require_sound(path, frames, logits, names, preprocessing)
    rows = LogitStore(None, {})
    rows.add({key_of(clip): row for clip, row in zip(frames, logits, strict=True)})
    name, fix = (
        f"expected outputs of {printable(str(stored['reference']))}",
        "leave --clips out with --reference expected",
    )
    runner = StoredRunner(name, preprocessing, logits.shape[1], rows, fix)
    runner.clips = tuple(
        Clip(printable(str(title)), number, clip, preprocessing)
        for number, (title, clip) in enumerate(zip(names, frames, strict=True))
    )
    return runner


def _require_sound(path: Path, frames: Array, logits: Array, names: Array, clip: Preprocessing) -> None:
    """Raise RunnerError unless the arrays are clips that the network takes, and finite logits and a name for each."""
    shape = (clip.frames, clip.size, clip.size, 3)
    if frames.dtype != np.uint8 or frames.ndim != 5 or len(frames) < 1 or frames.shape[1:] != shape:
        raise EXPECTED.refuse(path, f"its clips are {frames.dtype} {frames.shape}, not uint8 (clips, {shape})")
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != len(frames) or not np.isfinite(logits).all():
        raise EXPECTED.refuse(path, f"its logits are {logits.dtype} {logits.shape}, not finite float32 of each clip")
    if names.dtype.kind != "U" or names.shape != (len(frames),):
        raise EXPECTED.refuse(path, f"its names are {names.dtype} {names.shape}, not a text for each clip")
