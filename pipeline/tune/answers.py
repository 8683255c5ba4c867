"""The answers of candidates to labelled videos: computed by workers where the journal does not have them."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...clips.read_ahead import ReadAhead
from ...clips.source import ClipSource
from ...core.errors import DualExportError, ParityError, QuantizationError, RunnerError
from ...core.reporter import Notify
from ...core.runner import Runner, infer_logits
from ...core.types import Array, Artifact
from ...verification.measures import softmax
from ...verification.pool import Pool, open_processes
from ..runners import open_beside_others
from ..verify.spread import Spread, list_stamps
from .journal import Journal
from .verdict import Answer
from .workshop import digest

MOST_OPEN = 2  # runners of a worker
VIDEOS_A_JOB = 4


@dataclass(frozen=True, slots=True)
class Question:
    """Some videos of a source for one file. Pickles."""

    artifact: Artifact
    source: ClipSource


class AnswerWorker:
    """Runs files on videos; those that it used last stay open. It opens nothing before, and so `info` is nothing."""

    info = None

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._open: OrderedDict[str, Runner] = OrderedDict()

    def run(self, jobs: Iterable[Question]) -> Iterator[list[Array]]:
        """Yield the logits (views, classes) of each video of a job; the next job is decoded meanwhile."""
        for job, clips in ReadAhead((job, _decode(job.source)) for job in jobs):
            rows = infer_logits(self._find(job.artifact), [clip for views in clips for clip in views])
            yield np.split(rows, np.cumsum([len(views) for views in clips])[:-1])

    def close(self) -> tuple[str, ...]:
        """Close the runners, and return the errors of that."""
        errors = []
        while self._open:
            try:
                self._open.popitem()[1].__exit__(None, None, None)
            except DualExportError as error:
                errors.append(str(error))
        return tuple(errors)

    def _find(self, artifact: Artifact) -> Runner:
        if artifact.sha256 not in self._open:
            while len(self._open) >= MOST_OPEN:
                with suppress(DualExportError):
                    self._open.popitem(last=False)[1].__exit__(None, None, None)
            self._open[artifact.sha256] = open_beside_others(artifact, self._threads).__enter__()
        self._open.move_to_end(artifact.sha256)
        return self._open[artifact.sha256]


def _decode(source: ClipSource) -> list[list[Any]]:
    return [list(source.of((video,))) for video in source.videos]


def make_worker(threads: int | None) -> AnswerWorker:
    """A worker that computes with so many threads."""
    return AnswerWorker(threads)


@contextmanager
def open_pool(spread: Spread, note: Notify, *, on_gpu: bool) -> Iterator[Pool[Question, list[Array]]]:
    """Workers here, in processes, or on a Ray cluster."""
    workers = spread.workers or 1
    if spread.ray is not None:
        from ...verification.ray_pool import open_ray

        with open_ray(spread.ray, make_worker, spread.workers, note, on_gpu=on_gpu) as pool:
            yield pool
    elif workers > 1:
        make = partial(make_worker, max(1, (os.cpu_count() or 1) // workers))
        with open_processes(make, workers, note) as pool:
            yield pool
    else:
        worker = AnswerWorker()
        try:
            yield Pool((worker.info,), worker.run)
        finally:
            for message in worker.close():
                note(message)


@dataclass(slots=True)
class Answers:
    """The logits of candidates by name, and what they make of the labels; `make` makes a candidate's file.

    `sources` are the clips as each candidate takes them, all of the same videos, whose classes are `labels`. A
    candidate that cannot be made, or does not run, answers everything wrongly; `failures` say why. `asked` are the
    answers that were looked at.
    """

    make: Callable[[str], Artifact]
    sources: Mapping[str, ClipSource]
    labels: Sequence[int]
    journal: Journal
    pool: Pool[Question, list[Array]]
    failures: dict[str, str] = field(default_factory=dict)
    asked: set[tuple[str, int]] = field(default_factory=set)
    _stamps: list[str] = field(default_factory=list)

    def __call__(self, name: str, videos: Sequence[int]) -> list[Answer]:
        """Answer a question of the search."""
        try:
            found = self.logits(name, videos)
        except (ParityError, QuantizationError, RunnerError) as error:
            self.failures[name] = str(error)
        if name in self.failures:
            return [Answer(right=False, margin=0.0)] * len(videos)
        return [judge(rows, self.labels[video]) for rows, video in zip(found, videos, strict=True)]

    def logits(self, name: str, videos: Sequence[int]) -> list[Array]:
        """Logits (views, classes) of each video; raises what making and running the file raises."""
        artifact, source = self.make(name), self.sources[name]
        self.asked.update((name, video) for video in videos)
        classes = artifact.outputs[0].shape[1]
        keys = {video: self._key(artifact, source, video) for video in videos}
        known = {video: row for video, key in keys.items() if (row := self.journal.find(key)) is not None}
        new = [video for video in videos if video not in known]
        parts = [new[start : start + VIDEOS_A_JOB] for start in range(0, len(new), VIDEOS_A_JOB)]
        jobs = [Question(artifact, source.of([source.videos[video] for video in part])) for part in parts]
        for part, rows in zip(parts, self.pool.map(jobs) if jobs else (), strict=True):
            computed = dict(zip(part, rows, strict=True))
            self.journal.add({keys[video]: row for video, row in computed.items()})
            known |= computed
        return [np.reshape(np.asarray(known[video]), (-1, classes)) for video in videos]

    def _key(self, artifact: Artifact, source: ClipSource, video: int) -> str:
        if not self._stamps:
            self._stamps += [digest([str(one.path), list_stamps(one.path)]) for one in source.videos]
        return f"logits {artifact.sha256} {self._stamps[video]} {source.rules}"


def judge(logits: Array, label: int) -> Answer:
    """The answer that a video's views (views, classes) give together: the mean of their probabilities."""
    mean = softmax(logits).mean(axis=0)
    if not np.isfinite(mean).all():
        return Answer(right=False, margin=0.0)
    second, first = np.partition(mean, -2)[-2:] if len(mean) > 1 else (0.0, mean[0])
    return Answer(bool(mean.argmax() == label), float(first - second))
