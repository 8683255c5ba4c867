"""Comparison of a job's runners on any number of videos: spread over a pool of workers, and so that it can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import length_hint
from pathlib import Path
from typing import Any

from ...clips.read_ahead import ReadAhead
from ...clips.source import ClipSource, SkippedVideo
from ...core.choices import Reference
from ...core.errors import OutputError, RunnerError
from ...core.logit_store import REFERENCE_NAME, LogitStore, ReferenceInfo, name_store
from ...core.reporter import Reporter
from ...core.types import Clip
from ...runtimes.stored_runner import StoredRunner
from ...runtimes.tensorrt.engine_file import FORMAT as ENGINE_FORMAT
from ...verification.compare import Comparison, compare, summarize, track
from ...verification.logits import BatchLogits, pack_logits, unpack_logits
from ...verification.pool import Pool, open_processes
from . import inputs
from .job import Batch, VerifyJob, VerifyWorker, WorkerInfo, make_worker


@dataclass(frozen=True, slots=True)
class Spread:
    """The place where clips are computed: processes here, or the Ray cluster at an address ("auto": find one)."""

    workers: int | None = None
    ray: str | None = None

    def at_most(self, count: int) -> Spread:
        """Leave out workers for which there is no video."""
        return self if self.workers is None else replace(self, workers=min(self.workers, max(1, count)))


def compare_clips(
    job: VerifyJob, clips: Iterable[Clip], names: tuple[str, ...] | None, spread: Spread, reporter: Reporter
) -> tuple[Comparison, Iterable[Clip], LogitStore | None]:
    """Compare on `clips`, or on those that the reference brings along; return these, and the store of the run."""
    inputs.note_reference(job.manifest, job.reference, reporter)
    reporter("loading the reference")
    if isinstance(clips, ClipSource):
        comparison, store = compare_videos(job, clips, names, spread, reporter)
        return comparison, clips, store
    with ExitStack() as opened:
        reference, candidates = job.open(opened, reporter.note)
        source = reference.clips if isinstance(reference, StoredRunner) else clips
        return compare(reference, candidates, ReadAhead(source), names, reporter), source, None


def compare_videos(
    job: VerifyJob, source: ClipSource, names: tuple[str, ...] | None, spread: Spread, reporter: Reporter
) -> tuple[Comparison, LogitStore | None]:
    """Compare on all videos of `source`, labelled by the class `names`.

    The same figures to the last digit, however they are spread. Results are kept in a store beside the manifest, which
    is returned closed, for the caller to discard when the reports are written; None where it cannot be written.
    The reference's logits stay for machines without PyTorch.
    """
    with ExitStack() as opening:
        pool = opening.enter_context(
            _open_pool(job.absolute(), source.of(()), spread.at_most(len(source.videos)), reporter)
        )
        info = _require_alike(pool.workers, reporter)
        store = _open_store(job, source, info, reporter)
        if store is not None:
            opening.callback(store.close)
        results = opening.enter_context(closing(_compute(pool, _split(source, info.batch), store, reporter)))
        batches = track(_count(results, source), length_hint(source), reporter)
        try:
            comparison = summarize(info.reference, info.candidates, batches, names)
        except BaseException:
            if store is not None and not store.is_empty:
                reporter.note("what was computed is kept: the same command goes on behind it")
            raise
        if store is not None and job.reference is Reference.TORCH:
            _publish(job, info, store, reporter)
        return comparison, store


def _split(source: ClipSource, batch: int) -> list[Batch]:
    """Split into batches, the same in every run."""
    size, videos = -(-batch // source.views), source.videos
    return [
        Batch(number, tuple(replace(video, path=video.path.absolute()) for video in videos[start : start + size]))
        for number, start in enumerate(range(0, len(videos), size))
    ]


def _compute(
    pool: Pool[Batch, BatchLogits], batches: Sequence[Batch], store: LogitStore | None, reporter: Reporter
) -> Generator[BatchLogits]:
    """Yield what the store holds, then what is computed, which it gets."""
    keys = [_key(batch) for batch in batches]
    done = clips = 0
    if store is not None:
        for logits in map(unpack_logits, store.replay(keys)):
            done += 1
            clips += len(logits.clips)
            yield logits
        if done:
            reporter.note(f"going on after {clips} clips of an earlier run, in {store.path}")
    for key, logits in zip(keys[done:], pool.map(batches[done:]), strict=True):
        if store is not None:
            store.append(key, pack_logits(logits), _reference_rows(logits))
        yield logits


def _reference_rows(logits: BatchLogits) -> dict[bytes, Any]:
    return {frames: row for frames, row in zip(logits.frames, logits.reference, strict=True) if frames}


def _count(results: Iterable[BatchLogits], source: ClipSource) -> Iterator[BatchLogits]:
    """Yield all results; at their end `source` says which videos were skipped."""
    skipped: list[SkippedVideo] = []
    clips = 0
    for result in results:
        clips += len(result.clips)
        skipped += (SkippedVideo(*one) for one in result.skipped)
        yield result
    source.skipped = tuple(skipped)
    if not clips:
        raise source.nothing_read()


def _key(batch: Batch) -> str:
    """Identify videos by name, label, size and time of change; a folder of frames by those of its frames."""
    videos = [(video.name, video.label, list_stamps(video.path)) for video in batch.videos]
    return hashlib.sha256(json.dumps(videos).encode()).hexdigest()


def list_stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of each file in a folder."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [os.stat(file)]]  # noqa: PTH116
    except OSError:  # whoever reads it says so
        return []


@contextmanager
def _open_pool(
    job: VerifyJob, source: ClipSource, spread: Spread, reporter: Reporter
) -> Iterator[Pool[Batch, BatchLogits]]:
    workers = spread.workers or 1
    if spread.ray is not None:
        with _open_ray(job, source, spread, reporter) as pool:
            yield pool
    elif workers > 1:
        make = partial(make_worker, max(1, (os.cpu_count() or 1) // workers), job=job, source=source)
        with open_processes(make, workers, reporter.note) as pool:
            yield pool
    else:
        worker = VerifyWorker(job, source)
        try:
            yield Pool((worker.info,), worker.run)
        finally:
            for message in worker.close():
                reporter.note(message)


def _open_ray(
    job: VerifyJob, source: ClipSource, spread: Spread, reporter: Reporter
) -> AbstractContextManager[Pool[Batch, BatchLogits]]:
    from ...verification.ray_pool import open_ray

    make = partial(make_worker, job=job, source=source)
    on_gpu = any(artifact.format == ENGINE_FORMAT for artifact in job.artifacts)
    return open_ray(spread.ray or "", make, spread.workers, reporter.note, on_gpu=on_gpu)


def _require_alike(workers: Sequence[WorkerInfo], reporter: Reporter) -> WorkerInfo:
    """Return what all have opened; raises RunnerError where the same clip might get other logits elsewhere."""
    first, *others = workers
    for other in others:
        mine, theirs = _list_versions(first), _list_versions(other)
        differing = [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]
        if differing:
            name = differing[0]
            raise RunnerError(
                f"the workers differ: {name} is {mine.get(name)} on one and {theirs.get(name)} on another",
                fix="install the same versions on all machines",
            )
    if len(processors := {worker.processor for worker in workers}) > 1:
        reporter.note(f"the processors differ ({', '.join(map(str, processors))}), and so may the last digits")
    candidates = {
        name: next((worker.candidates[name] for worker in workers if worker.candidates[name].failure is not None), one)
        for name, one in first.candidates.items()
    }
    return replace(first, candidates=candidates)


def _list_versions(info: WorkerInfo) -> dict[str, str]:
    runners = {name: one.runner for name, one in info.candidates.items() if one.failure is None}
    return {**info.versions, **runners, "the reference": info.reference}


def _open_store(job: VerifyJob, source: ClipSource, info: WorkerInfo, reporter: Reporter) -> LogitStore | None:
    """Open the store of this comparison; None, and a note, where it cannot be written."""
    run = _describe_run(job, source, info)
    try:
        return LogitStore(job.manifest.folder / name_store(run), run)
    except OutputError as error:
        reporter.note(f"{error}: if this run breaks off, it starts anew")
        return None


def _describe_run(job: VerifyJob, source: ClipSource, info: WorkerInfo) -> dict[str, Any]:
    """List all that the logits depend on beside the videos themselves; limits are not among it."""
    hashes = {artifact.path.name: artifact.sha256 for artifact in job.artifacts}
    onnx = job.reference is Reference.ONNX
    return {
        "format": 2,
        "network": inputs.describe_network(job.manifest),
        "reference": [info.reference, inputs.require_fp32(job.manifest).sha256 if onnx else None],
        "artifacts": {name: [hashes[name], one.runner, one.failure] for name, one in info.candidates.items()},
        "videos": str(source.path.absolute()),
        "views": source.views,
        "skip_unreadable": source.skip_unreadable,
        "decoder": source.decoder.value,
        "shown": str(source.shown_frames),
        "batch": info.batch,
        "versions": dict(info.versions),
        "processor": info.processor,
    }


def _publish(job: VerifyJob, info: WorkerInfo, store: LogitStore, reporter: Reporter) -> None:
    """Keep what the PyTorch network gave for machines without it."""
    about = ReferenceInfo.of(inputs.describe_network(job.manifest), info.reference, job.manifest.classes)
    try:
        store.publish(job.manifest.folder / REFERENCE_NAME, about)
    except OutputError as error:
        reporter.note(f"the reference's logits are not stored: {error}")
