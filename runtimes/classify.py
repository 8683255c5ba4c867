"""Clips through a runner: batches, logits, and the classes that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from ..contracts import Array, Clip, ClipError, LabelError, Runner


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class, and its probability averaged over a video's views."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable classes of one video, best first."""

    video: str
    views: int
    top: tuple[ClassProbability, ...]


def infer_logits(runner: Runner, clips: Sequence[Clip]) -> Array:
    """Logits (clips, classes) of any number of clips: runs of the runner's batch size, the last one filled up.

    Raises ClipError for a clip of another shape or type than the runner's input.
    """
    spec = runner.inputs[0]
    batch = spec.shape[0]
    rows = []
    for start in range(0, len(clips), batch):
        part = [_checked_input(clip, spec.dtype, spec.shape[1:]) for clip in clips[start : start + batch]]
        filled = part + [part[-1]] * (batch - len(part))
        output = runner.infer({spec.name: np.stack(filled)})[runner.outputs[0].name]
        rows.append(output[: len(part)])
    return np.concatenate(rows)


def predict_videos(runner: Runner, clips: Iterable[Clip], labels: Sequence[str], top: int = 5) -> Iterator[Prediction]:
    """One prediction a video, from its views as they come: softmax of each view, then their mean, as published."""
    for video, views in groupby(clips, key=lambda clip: clip.name):
        total, count = np.zeros(runner.outputs[0].shape[1]), 0
        while part := list(islice(views, runner.inputs[0].shape[0])):
            total += softmax(infer_logits(runner, part)).sum(axis=0)
            count += len(part)
        best = np.argsort(-total, kind="stable")[:top]
        found = (ClassProbability(int(index), labels[index], float(total[index]) / count) for index in best)
        yield Prediction(video, count, tuple(found))


def read_labels(path: Path | None, classes: int) -> tuple[str, ...]:
    """Class names from a text file, one a line in label order; without a file, "class 0" and so on.

    Raises LabelError when the file cannot be read or names another number of classes than the network has.
    """
    if path is None:
        return tuple(f"class {number}" for number in range(classes))
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path}: cannot be read as text ({error})", fix="give UTF-8 text, one class name a line"
        ) from error
    if len(names) != classes:
        raise LabelError(
            f"{path.name} names {len(names)} classes, the network has {classes}",
            fix="give the labels that the network was trained with",
        )
    return names


def find_class(label: str, names: Sequence[str], classes: int) -> int:
    """The class that `label` means: one of `names`, class names in order, or a class number from 0.

    Raises LabelError where it is neither.
    """
    if label in names:
        return names.index(label)
    if label.isascii() and label.isdigit() and int(label) < classes:
        return int(label)
    known = "its class names are not known" if not names else "it is none of its class names"
    raise LabelError(
        f"the label {label!r} is no class of the network: {known}, and no number from 0 to {classes - 1}",
        fix="correct the label, or name the classes when exporting: `dualexport onnx --labels FILE`",
    )


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def _checked_input(clip: Clip, dtype: str, shape: tuple[int, ...]) -> Array:
    values = clip.network_input(dtype)
    if values.shape != shape:
        raise ClipError(
            f"{clip.name}: the clip is {values.shape}, the network takes {shape}",
            fix="give videos, or clips of the network's own number of frames and size",
        )
    return values
