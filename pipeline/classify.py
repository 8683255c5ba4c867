"""Clips through a runner: batches, logits, and the classes that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from ..core.errors import RunnerError
from ..core.runner import Runner, infer_logits
from ..core.types import Clip
from ..verification.measures import softmax


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


def predict_videos(runner: Runner, clips: Iterable[Clip], labels: Sequence[str], top: int = 5) -> Iterator[Prediction]:
    """One prediction a video, from its views as they come: softmax of each view, then their mean, as published."""
    for video, views in groupby(clips, key=lambda clip: clip.name):
        total, count = np.zeros(runner.outputs[0].shape[1]), 0
        while part := list(islice(views, runner.inputs[0].shape[0])):
            logits = infer_logits(runner, part)
            if not np.isfinite(logits).all():
                raise RunnerError(
                    f"{video}: {runner.name} gives logits that are NaN or infinite",
                    fix="compare the file with its network: `dualexport verify --layers` names the block it enters at",
                )
            total += softmax(logits).sum(axis=0)
            count += len(part)
        best = np.argsort(-total, kind="stable")[:top]
        found = (ClassProbability(int(index), labels[index], float(total[index]) / count) for index in best)
        yield Prediction(video, count, tuple(found))
