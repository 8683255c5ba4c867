"""Clips with the logits that the network gives for them: a reference for where the network itself cannot run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.errors import ClipError, RunnerError
from ..core.logit_store import LogitStore, key_of
from ..core.runner import Runner, infer_logits
from ..core.types import Clip, Preprocessing
from .stored_runner import StoredRunner

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


def read_expected(path: Path, preprocessing: Preprocessing) -> StoredRunner:
    """Open an expected.npz: a runner of its logits, with its clips.

    Raises RunnerError for a file that is missing or is not one.
    """
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
    rows = LogitStore(None, {})
    rows.add({key_of(clip): row for clip, row in zip(frames, logits, strict=True)})
    name, fix = f"expected outputs of {reference}", "leave --clips out with --reference expected"
    runner = StoredRunner(name, preprocessing, logits.shape[1], rows, fix)
    runner.clips = tuple(
        Clip(str(title), number, clip, preprocessing)
        for number, (title, clip) in enumerate(zip(names, frames, strict=True))
    )
    return runner


def _require_bounded(path: Path) -> None:
    """Raise ValueError for a file that unpacks to more than clips need: it may come from a stranger."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
