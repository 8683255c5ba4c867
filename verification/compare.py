"""Comparison of artifacts with the reference network, batch by batch, in fixed memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import length_hint

from ..core.class_names import find_class
from ..core.errors import ClipError, DualExportError, RunnerError
from ..core.reporter import Progress, no_progress
from ..core.runner import Runner, infer_logits
from ..core.types import Clip
from .checks import check_limits
from .limits import Limits
from .logits import BatchLogits, View
from .tally import AccuracyTally, ComparisonReport, LabelAccuracy, Tally, VideoLogits


@dataclass(frozen=True, slots=True)
class Candidate:
    """An artifact to compare with the reference: its runner, and its limits; no runner where it did not load."""

    runner: Runner | None
    limits: Limits
    failure: str | None = None

    @property
    def info(self) -> CandidateInfo:
        """Leave the runner out."""
        return CandidateInfo(self.runner.name if self.runner else "", self.limits, self.failure)


@dataclass(frozen=True, slots=True)
class CandidateInfo:
    """A candidate without its runner: the runner's name, the limits, and the reason why it did not load."""

    runner: str
    limits: Limits
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One reference, and how far each artifact is from it on the same clips.

    `accuracy` is the reference's own, on the `labelled` videos.
    """

    reference: str
    clips: int
    videos: int
    labelled: int
    accuracy: LabelAccuracy | None
    reports: tuple[ComparisonReport, ...]

    @property
    def passed(self) -> bool:
        """True where every artifact holds its limits, and there is one."""
        return bool(self.reports) and all(report.passed for report in self.reports)


def compare(
    reference: Runner,
    candidates: Mapping[str, Candidate],
    clips: Iterable[Clip],
    names: Sequence[str] | None = (),
    progress: Progress = no_progress,
) -> Comparison:
    """Run every clip through `reference` and each of `candidates`, by artifact name.

    Clips with a label count towards accuracy; a label is one of `names`, the class names in order, or a class number.
    With `names` None labels do not matter.
    A candidate that fails is reported as failed, and the others go on. Raises ClipError when there is no clip to
    compare: nothing compared is no agreement; LabelError for a label that is no class.
    """
    inference = Inference(reference, candidates)
    groups = enumerate(group_videos(clips, inference.batch))
    batches = (inference.infer(number, group) for number, group in groups)
    infos = {name: candidate.info for name, candidate in candidates.items()}
    return summarize(reference.name, infos, track(batches, length_hint(clips), progress), names)


class Inference:
    """Runs the reference and the candidates on batches; a candidate that failed is not asked for later ones.

    `batch` is the largest batch of all runners. Batches may come out of order: their numbers say what is later.
    """

    def __init__(self, reference: Runner, candidates: Mapping[str, Candidate]) -> None:
        self._reference = reference
        self._runners = {name: candidate.runner for name, candidate in candidates.items() if candidate.runner}
        self._failed = {
            name: (-1, candidate.failure or "it was not loaded")
            for name, candidate in candidates.items()
            if candidate.runner is None
        }
        self.batch = max(runner.inputs[0].shape[0] for runner in (reference, *self._runners.values()))

    def infer(self, number: int, clips: Sequence[Clip]) -> BatchLogits:
        """Compute the logits of batch `number`; a candidate that raises has failed, the reference must not."""
        try:
            expected = infer_logits(self._reference, clips)
        except ClipError:  # which names its clip
            raise
        except DualExportError as error:
            names = dict.fromkeys((clips[0].name, clips[-1].name))
            raise RunnerError(f"{' to '.join(names)}: {error}", fix=error.fix) from error
        found, shown = {}, [clip.as_shown for clip in clips]
        for name, runner in self._runners.items():
            if name not in self._failed or number < self._failed[name][0]:
                try:
                    found[name] = infer_logits(runner, shown)
                except DualExportError as error:
                    self._failed[name] = number, str(error)
        failures = {name: failure for name, (since, failure) in self._failed.items() if since <= number}
        return BatchLogits(tuple(View.of(clip) for clip in clips), expected, found, failures)


def group_videos(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Yield consecutive whole videos, at least `size` clips where there are as many: the same in every run."""
    group: list[Clip] = []
    for clip in clips:
        if len(group) >= size and not _same_video(group[-1], clip):
            yield group
            group = []
        group.append(clip)
    if group:
        yield group


def summarize(
    reference: str,
    candidates: Mapping[str, CandidateInfo],
    batches: Iterable[BatchLogits],
    names: Sequence[str] | None,
) -> Comparison:
    """Tally all batches in their order, each candidate until it fails, and check limits; raises as `compare` does."""
    tallies = {name: Tally() for name in candidates}
    failures = {name: candidate.failure for name, candidate in candidates.items()}
    own, clips, videos = AccuracyTally(), 0, 0
    for batch in batches:
        clips += len(batch.clips)
        failures |= {name: failures[name] or why for name, why in batch.failures.items()}
        for rows in _list_videos(batch.clips):
            views, expected = batch.clips[rows], batch.reference[rows]
            given = None if names is None else views[0].label
            label = None if given is None else find_class(given, names or (), expected.shape[1])
            videos += 1
            if label is not None:
                own.add(expected, label)
            for name, logits in batch.candidates.items():
                if failures[name] is None:
                    tallies[name].add(VideoLogits(views, expected, label), logits[rows])
    if not clips:
        raise ClipError("no clip to compare", fix="give a source with at least one readable video")
    reports = (tallies[name].report(name, one.runner, failures[name]) for name, one in candidates.items())
    checked = tuple(_check(report, candidates[report.artifact].limits) for report in reports)
    return Comparison(reference, clips, videos, own.videos, own.report(), checked)


def track(batches: Iterable[BatchLogits], total: int, progress: Progress) -> Iterator[BatchLogits]:
    """Yield the same batches, with progress in clips."""
    done = 0
    progress("comparing clips", done, total or None)
    for batch in batches:
        yield batch
        done += len(batch.clips)
        progress("comparing clips", done, total or None)


def _check(report: ComparisonReport, limits: Limits) -> ComparisonReport:
    """Hold the figures against limits; where no clip was compared, there are none to hold."""
    return replace(report, checks=check_limits(report, limits)) if report.clips else report


def _same_video(before: Clip | View, clip: Clip | View) -> bool:
    return before.name == clip.name and clip.view > before.view


def _list_videos(clips: Sequence[View]) -> Iterator[slice]:
    """Yield the rows of each video's views."""
    start = 0
    for row in range(1, len(clips) + 1):
        if row == len(clips) or not _same_video(clips[row - 1], clips[row]):
            yield slice(start, row)
            start = row
