"""A verification's job: the reference and the candidates to compare, and the worker that runs them on batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ...clips.listing import Video
from ...clips.source import ClipSource
from ...core.choices import Reference
from ...core.logit_store import key_of
from ...core.manifest import Manifest, tool_versions
from ...core.reporter import Notify
from ...core.runner import Runner, open_noting
from ...core.types import Artifact, Clip
from ...runtimes.machine.environment import read_environment
from ...verification.compare import Candidate, CandidateInfo, Inference, group_videos
from ...verification.limits import Limits
from ...verification.logits import BatchLogits, join_logits
from . import inputs

MOST_DECODERS = 4  # threads of a worker that decode


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """A reference, and the artifacts that are compared with it, within limits by file name. Pickles."""

    manifest: Manifest
    artifacts: Sequence[Artifact]
    reference: Reference
    checkpoint: Path | None
    limits: Mapping[str, Limits]

    def open(self, opened: ExitStack, note: Notify, threads: int | None = None) -> tuple[Runner, dict[str, Candidate]]:
        """Open the reference's runner and the candidates; closed with `opened`, which notes what goes wrong then."""
        reference = inputs.open_reference(self.manifest, self.checkpoint, self.reference, threads)
        opened.enter_context(open_noting(reference, note))
        return reference, inputs.open_candidates(self.artifacts, self.limits, opened, note, threads)

    def absolute(self) -> VerifyJob:
        """Make paths hold in another working folder."""
        weights = self.manifest.weights
        if weights.checkpoint is not None and not weights.demo:
            weights = replace(weights, checkpoint=weights.checkpoint.absolute())
        manifest = replace(
            self.manifest,
            folder=self.manifest.folder.absolute(),
            weights=weights,
            artifacts=_absolute(self.manifest.artifacts),
        )
        checkpoint = self.checkpoint.absolute() if self.checkpoint else None
        return replace(self, manifest=manifest, artifacts=_absolute(self.artifacts), checkpoint=checkpoint)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """The runners of a worker: the reference by name, the largest batch, the candidates; and the machine."""

    reference: str
    batch: int
    candidates: Mapping[str, CandidateInfo]
    versions: Mapping[str, str]
    processor: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive videos of a source, which are inferred together; batches are numbered in order."""

    number: int
    videos: tuple[Video, ...]


class VerifyWorker:
    """All runners of a job. The next batches are decoded in threads while one is inferred.

    `source` says how videos become clips. Without `threads`, the libraries choose in how many they compute.
    """

    def __init__(self, job: VerifyJob, source: ClipSource, threads: int | None = None) -> None:
        self._source = source
        self._decoders = min(MOST_DECODERS, max(2, (threads or os.cpu_count() or 1) // 2))
        self._opened = ExitStack()
        self._errors: list[str] = []
        try:
            reference, candidates = job.open(self._opened, self._errors.append, threads)
        except BaseException:
            self.close()
            raise
        self._inference = Inference(reference, candidates)
        environment = read_environment()
        self.info = WorkerInfo(
            reference.name,
            self._inference.batch,
            {name: candidate.info for name, candidate in candidates.items()},
            tool_versions(),
            " and ".join(filter(None, (environment.cpu, environment.gpu))) or None,
        )

    def run(self, jobs: Iterable[Batch]) -> Iterator[BatchLogits]:
        """Decode and infer. Raises ClipError for a video that cannot be read, where that is not to be skipped."""
        threads = ThreadPoolExecutor(self._decoders, thread_name_prefix="decode")
        pending: deque[_Reading] = deque()
        try:
            for batch in jobs:
                pending.append(_Reading(batch, self._source.of(batch.videos), self.info.batch, threads))
                if len(pending) > self._decoders:
                    yield self._infer(pending.popleft())
            while pending:
                yield self._infer(pending.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def close(self) -> tuple[str, ...]:
        """Close the runners, and return the errors of that."""
        self._opened.close()
        return tuple(self._errors)

    def _infer(self, reading: _Reading) -> BatchLogits:
        parts = [
            replace(self._inference.infer(reading.number, clips), frames=frames) for clips, frames in reading.groups()
        ]
        return join_logits(parts, tuple((video.name, video.reason) for video in reading.source.skipped))


class _Reading:
    """The clips of a batch in groups that are inferred at once; a group is decoded before it is asked for."""

    def __init__(self, batch: Batch, source: ClipSource, size: int, threads: ThreadPoolExecutor) -> None:
        self.number, self.source = batch.number, source
        self._groups = ((clips, _digest(clips)) for clips in group_videos(source.read(), size))
        self._threads = threads
        self._next = self._read()

    def groups(self) -> Iterator[tuple[list[Clip], tuple[bytes, ...]]]:
        """Yield each group with its digests."""
        while (group := self._next.result()) is not None:
            self._next = self._read()
            yield group

    def _read(self) -> Future[tuple[list[Clip], tuple[bytes, ...]] | None]:
        return self._threads.submit(next, self._groups, None)


def make_worker(threads: int | None, job: VerifyJob, source: ClipSource) -> VerifyWorker:
    """Open a worker that computes with so many threads."""
    return VerifyWorker(job, source, threads)


def _digest(group: Sequence[Clip]) -> tuple[bytes, ...]:
    """SHA-256 of the frames of each clip, empty for one that was stored as float32."""
    return tuple(key_of(clip.data) if clip.data.dtype == "uint8" else b"" for clip in group)


def _absolute(artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    return tuple(replace(artifact, path=artifact.path.absolute()) for artifact in artifacts)
