"""Compares a lineup on any number of videos: spread over lanes, processes or machines, and so that it can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import length_hint
from typing import TYPE_CHECKING, Any

from ...clips.read_ahead import ReadAhead
from ...core.choices import Reference
from ...core.errors import MissingDependencyError, OutputError, RunnerError
from ...core.reporter import Reporter
from ...core.types import Clip
from ...runtimes.tensorrt.engine_file import FORMAT as ENGINE_FORMAT
from . import inputs
from .job import Lineup, Opened, Portion, PortionWorker, make_worker

if TYPE_CHECKING:
    from ...clips.source import ClipSource
    from ...verification.compare import Comparison, GroupLogits
    from ...verification.journal import Journal
    from ...verification.pool import Crew
    from ...verification.portions import PortionLogits

MOST_LANES = 4  # of a worker: threads that decode


@dataclass(frozen=True, slots=True)
class Spread:
    """Where clips are computed: in so many processes here, or on the Ray cluster at an address ("auto": find one)."""

    workers: int | None = None
    ray: str | None = None


def compare_lineup(
    lineup: Lineup, clips: Iterable[Clip], spread: Spread, reporter: Reporter
) -> tuple[Comparison, Iterable[Clip]]:
    """Compare on `clips`, or on those that the reference brings along, and say which it were."""
    from ...clips.source import ClipSource
    from ...verification.compare import compare

    inputs.note_reference(lineup.manifest, lineup.reference, reporter)
    names = inputs.list_class_names(lineup.manifest, clips, reporter)
    reporter("loading the reference")
    if isinstance(clips, ClipSource):
        return compare_videos(lineup, clips, names, spread, reporter), clips
    with ExitStack() as opened:
        reference, own, candidates = lineup.open(opened)
        source = clips if own is None else own
        return compare(reference, candidates, ReadAhead(source), names, reporter), source


def compare_videos(
    lineup: Lineup, source: ClipSource, names: tuple[str, ...] | None, spread: Spread, reporter: Reporter
) -> Comparison:
    """Compare on all videos of `source`, labelled by the class `names`.

    The same figures to the last digit, however they are spread. Results are kept in a journal beside the manifest
    until all are there; the reference's logits stay then.
    """
    from ...verification.compare import summarize, track

    with ExitStack() as opening:
        crew = opening.enter_context(_open_crew(lineup, source.of(()), spread))
        opened = _require_alike(crew.opened, reporter)
        journal = _open_journal(lineup, source, opened, opening, reporter)
        results = opening.enter_context(closing(_compute(crew, _split(source, opened.batch), journal, reporter)))
        groups = track(_unpack(results, source), length_hint(source), reporter)
        try:
            comparison = summarize(opened.reference, opened.entries, groups, names)
        except BaseException:
            if journal is not None and journal.clips:
                reporter.note(f"{journal.clips} clips are kept: the same command goes on behind them")
            raise
        if journal is not None:
            _finish(lineup, opened, journal, reporter)
        return comparison


def _split(source: ClipSource, batch: int) -> list[Portion]:
    """Portions that fill a batch, the same in every run."""
    size, videos = -(-batch // source.views), source.videos
    return [
        Portion(tuple(replace(video, path=video.path.absolute()) for video in videos[start : start + size]), start)
        for start in range(0, len(videos), size)
    ]


def _compute(
    crew: Crew[Portion, PortionLogits],
    portions: Sequence[Portion],
    journal: Journal | None,
    reporter: Reporter,
) -> Generator[PortionLogits]:
    """What the journal holds, then what is computed, which it gets."""
    from ...verification.lanes import deal

    done = 0
    if journal is not None:
        for result in journal.replay(map(_key, portions)):
            done += 1
            yield result
        if done:
            reporter.note(f"going on after {journal.clips} clips of an earlier run, in {journal.path}")
    rest = portions[done:]
    with closing(deal(rest, crew.lanes)) as results:
        for portion, result in zip(rest, results, strict=True):
            if journal is not None:
                journal.append(_key(portion), result)
            yield result


def _unpack(results: Iterable[PortionLogits], source: ClipSource) -> Iterator[GroupLogits]:
    """The groups of all portions; at their end `source` says which videos were skipped."""
    from ...clips.source import SkippedVideo

    skipped: list[SkippedVideo] = []
    clips = 0
    for result in results:
        clips += result.clips
        skipped += (SkippedVideo(*one) for one in result.skipped)
        yield from result.groups
    source.skipped = tuple(skipped)
    if not clips:
        raise source.nothing_read()


def _key(portion: Portion) -> str:
    """By which a result is known to be of these videos: their names, labels, sizes and times of change."""
    files = [(video.name, video.label, *_stamp(video.path)) for video in portion.videos]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _stamp(path: os.PathLike[str]) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # whoever reads it says so
        return ()
    return status.st_size, status.st_mtime_ns


@contextmanager
def _open_crew(lineup: Lineup, source: ClipSource, spread: Spread) -> Iterator[Crew[Portion, PortionLogits]]:
    from ...verification.pool import Crew, open_processes

    cores, workers = os.cpu_count() or 1, spread.workers or 1
    if spread.ray is not None:
        with _open_ray(lineup.absolute(), source, spread) as crew:
            yield crew
    elif workers > 1:
        threads = max(1, cores // workers)
        make = partial(make_worker, threads, lineup=lineup, source=source)
        with open_processes(make, workers, _count_lanes(threads)) as crew:
            yield crew
    else:
        with PortionWorker(lineup, source) as worker:
            yield Crew((worker.opened,), ((worker.run,) * _count_lanes(cores),))


def _open_ray(
    lineup: Lineup, source: ClipSource, spread: Spread
) -> AbstractContextManager[Crew[Portion, PortionLogits]]:
    try:
        from ...verification.ray_pool import open_ray
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise MissingDependencyError(
            "`dualexport verify --ray` needs ray, which is not installed", fix='pip install "dualexport[ray]"'
        ) from error
    make = partial(make_worker, lineup=lineup, source=source)
    on_gpu = any(artifact.format == ENGINE_FORMAT for artifact in lineup.artifacts)
    return open_ray(spread.ray or "", make, spread.workers, _count_lanes, on_gpu=on_gpu)


def _count_lanes(threads: int) -> int:
    return min(MOST_LANES, max(2, threads // 2))


def _require_alike(workers: Sequence[Opened], reporter: Reporter) -> Opened:
    """What all have opened; raises RunnerError where the same clip might get other logits elsewhere."""
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
    entries = {
        name: next((worker.entries[name] for worker in workers if worker.entries[name].failure is not None), entry)
        for name, entry in first.entries.items()
    }
    return replace(first, entries=entries)


def _list_versions(opened: Opened) -> dict[str, str]:
    runners = {name: entry.runner for name, entry in opened.entries.items() if entry.failure is None}
    return {**opened.versions, **runners, "the reference": opened.reference}


def _open_journal(
    lineup: Lineup, source: ClipSource, opened: Opened, opening: ExitStack, reporter: Reporter
) -> Journal | None:
    """The journal of this comparison; None, and a note, where it cannot be written."""
    from ...verification.journal import Journal, name_journal

    run = _describe_run(lineup, source, opened)
    try:
        return opening.enter_context(Journal(lineup.manifest.folder / name_journal(run), run))
    except OutputError as error:
        reporter.note(f"{error}: if this run breaks off, it starts anew")
        return None


def _describe_run(lineup: Lineup, source: ClipSource, opened: Opened) -> dict[str, Any]:
    """All that the logits depend on beside the videos themselves; limits are not among it."""
    hashes = {artifact.path.name: artifact.sha256 for artifact in lineup.artifacts}
    onnx = lineup.reference is Reference.ONNX
    return {
        "format": 1,
        "network": inputs.describe_network(lineup.manifest),
        "reference": [opened.reference, inputs.require_fp32(lineup.manifest).sha256 if onnx else None],
        "artifacts": {name: [hashes[name], entry.runner, entry.failure] for name, entry in opened.entries.items()},
        "videos": str(source.path.absolute()),
        "views": source.views,
        "batch": opened.batch,
        "versions": dict(opened.versions),
        "processor": opened.processor,
    }


def _finish(lineup: Lineup, opened: Opened, journal: Journal, reporter: Reporter) -> None:
    """All is computed: keep what the PyTorch network gave for machines without it, and no more."""
    from ...runtimes.stored_runner import FILE_NAME, store_reference

    if lineup.reference is Reference.TORCH:
        path = lineup.manifest.folder / FILE_NAME
        try:
            store_reference(path, inputs.describe_network(lineup.manifest), opened.reference, journal.read())
        except OutputError as error:
            reporter.note(f"the reference's logits are not stored: {error}")
    journal.discard()
