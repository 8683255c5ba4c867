"""Classify clips with a runner: `dualexport predict` and `dualexport.classify`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..core.class_names import read_labels
from ..core.errors import LabelError, RunnerError
from ..core.reporter import Progress, no_progress
from ..core.runner import Runner, infer_logits
from ..core.types import Array, Clip, Preprocessing
from ..verification.measures import softmax
from .clips import Clips
from .runners import CLIP_RANK


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


def classify(
    runner: Runner,
    clips: Clips | Iterable[Clip],
    labels: Sequence[str] = (),
    top: int = 5,
    *,
    progress: Progress = no_progress,
) -> tuple[Prediction, ...]:
    """The `top` classes of each video: softmax of each view, then their mean, as published.

    `Clips` are taken as the published test pipeline does, with the runner's own number and size of frames; `Clips.open`
    takes them by other rules. Views follow one another; a video that comes twice has two predictions. `labels` are the
    classes' names in order, by default "class 0" and so on. Raises ClipError, RunnerError for logits that are no
    numbers, and LabelError for other labels than the network has classes.
    """
    names = name_classes(runner, labels)
    predictions = []
    progress("classifying")
    source = clips.open(_find_preprocessing(runner)) if isinstance(clips, Clips) else clips
    for views in _group_views(source):
        total, video, count = np.zeros(len(names)), "", 0
        while part := list(islice(views, runner.inputs[0].shape[0])):
            total += infer_probabilities(runner, part).sum(axis=0)
            video, count = part[0].name, count + len(part)
        best = np.argsort(-total, kind="stable")[:top]
        found = (ClassProbability(int(index), names[index], float(total[index]) / count) for index in best)
        predictions.append(Prediction(video, count, tuple(found)))
        progress("classifying", len(predictions))
    return tuple(predictions)


def infer_probabilities(runner: Runner, clips: Sequence[Clip]) -> Array:
    """Probabilities (clips, classes); raises RunnerError where a clip has logits that are no finite numbers."""
    logits = infer_logits(runner, clips)
    for clip, row in zip(clips, logits, strict=True):
        if not np.isfinite(row).all():
            raise RunnerError(
                f"{clip.name}: {runner.name} gives logits that are NaN or infinite",
                fix="compare the file with its network: `dualexport verify --layers` names the block it enters at",
            )
    return softmax(logits)


def name_classes(runner: Runner, labels: Sequence[str]) -> Sequence[str]:
    """A name for each class that the runner tells apart.

    Raises RunnerError for a runner that does not classify one batch of clips, and LabelError.
    """
    shapes = [spec.shape for spec in (*runner.inputs, *runner.outputs[:1])]
    if len(runner.inputs) != 1 or len(shapes) != 2 or len(shapes[1]) != 2 or shapes[0][:1] != shapes[1][:1]:
        specs = (runner.inputs, runner.outputs)
        takes, gives = (", ".join(f"{spec.name} {spec.shape}" for spec in each) for each in specs)
        raise RunnerError(
            f"{runner.name} takes {takes or 'nothing'} and gives {gives or 'nothing'}: it classifies no clips",
            fix="give a network with one input of clips and logits (batch, classes) as its first output",
        )
    classes = shapes[1][1]
    if labels and len(labels) != classes:
        raise LabelError(
            f"{len(labels)} class names for a network of {classes} classes",
            fix="give the labels that the network was trained with",
        )
    return labels or read_labels(None, classes)


def _find_preprocessing(runner: Runner) -> Preprocessing:
    """The published rules for the runner's frames: (batch, 3, frames, size, size), or uint8 (batch, frames, size, ...).

    Raises RunnerError for a runner that takes no clips.
    """
    spec = runner.inputs[0]
    if len(spec.shape) != CLIP_RANK:
        raise RunnerError(f"{runner.name} takes {spec.name} {spec.shape}, no clips", fix="give a network of clips")
    frames, size = spec.shape[1:3] if spec.dtype == "uint8" else spec.shape[2:4]
    return Preprocessing(frames=frames, size=size)


def _group_views(clips: Iterable[Clip]) -> Iterator[Iterator[Clip]]:
    """The clips video by video: another one begins with another name, and where the views start anew."""
    source = iter(clips)
    following = next(source, None)

    def take_views() -> Iterator[Clip]:
        nonlocal following
        while (clip := following) is not None:
            following = next(source, None)
            yield clip
            if following is None or following.name != clip.name or following.view <= clip.view:
                return

    while following is not None:
        yield take_views()
