"""Holds what artifacts compute against the reference network, clip by clip, in fixed memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import length_hint

from ..core.class_names import find_class
from ..core.errors import ClipError, DualExportError, RunnerError
from ..core.reporter import Progress, no_progress
from ..core.runner import Runner, infer_logits
from ..core.types import Array, Clip
from .checks import check_limits
from .limits import Limits
from .tally import AccuracyTally, ComparisonReport, LabelAccuracy, Tally, VideoLogits, View


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is compared with the reference, and how close it has to come; no runner where it did not load, and why."""

    runner: Runner | None
    limits: Limits
    failure: str | None = None

    @property
    def entry(self) -> Entry:
        return Entry(self.runner.name if self.runner else "", self.limits, self.failure)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a report says of a candidate beside its figures: what runs it, its limits, and why it did not load."""

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
        return bool(self.reports) and all(report.passed for report in self.reports)


@dataclass(frozen=True, slots=True)
class GroupLogits:
    """What all runners made of the same clips: logits (clips, classes) by artifact, or why there are none.

    `frames` are SHA-256 digests of what the clips show, where they are wanted, empty for clips stored as float32.
    """

    clips: tuple[View, ...]
    reference: Array
    artifacts: Mapping[str, Array]
    failures: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[bytes, ...] = ()


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
    groups = infer_groups(reference, candidates, clips)
    entries = {name: candidate.entry for name, candidate in candidates.items()}
    return summarize(reference.name, entries, track(groups, length_hint(clips), progress), names)


def infer_groups(
    reference: Runner, candidates: Mapping[str, Candidate], clips: Iterable[Clip]
) -> Iterator[GroupLogits]:
    """Logits of all runners, some whole videos at a time; a candidate that failed is not asked again."""
    asked = dict(candidates)
    for group in group_videos(clips, find_batch(reference, candidates)):
        logits = infer_group(reference, asked, group)
        asked |= {name: replace(asked[name], runner=None, failure=why) for name, why in logits.failures.items()}
        yield logits


def infer_group(reference: Runner, candidates: Mapping[str, Candidate], group: Sequence[Clip]) -> GroupLogits:
    """Logits of all runners for the same clips; a candidate that raises has failed, the reference must not."""
    found, failures = {}, {}
    try:
        expected = infer_logits(reference, group)
    except ClipError:  # which names its clip
        raise
    except DualExportError as error:
        names = dict.fromkeys((group[0].name, group[-1].name))
        raise RunnerError(f"{' to '.join(names)}: {error}", fix=error.fix) from error
    for name, candidate in candidates.items():
        if candidate.runner is None:
            failures[name] = candidate.failure or "it was not loaded"
            continue
        try:
            found[name] = infer_logits(candidate.runner, group)
        except DualExportError as error:
            failures[name] = str(error)
    return GroupLogits(tuple(View.of(clip) for clip in group), expected, found, failures)


def find_batch(reference: Runner, candidates: Mapping[str, Candidate]) -> int:
    """The largest batch of all runners: what a group of clips has to fill."""
    runners = [reference, *(candidate.runner for candidate in candidates.values() if candidate.runner)]
    return max(runner.inputs[0].shape[0] for runner in runners)


def group_videos(clips: Iterable[Clip], clips_a_group: int) -> Iterator[list[Clip]]:
    """Consecutive whole videos, at least so many clips where there are as many: the same groups in every run."""
    group: list[Clip] = []
    for clip in clips:
        if len(group) >= clips_a_group and not _same_video(group[-1], clip):
            yield group
            group = []
        group.append(clip)
    if group:
        yield group


def summarize(
    reference: str, entries: Mapping[str, Entry], groups: Iterable[GroupLogits], names: Sequence[str] | None
) -> Comparison:
    """The figures of all groups, taken in their order, of each artifact until it fails; raises as `compare` does."""
    tallies = {name: Tally() for name in entries}
    failures = {name: entry.failure for name, entry in entries.items()}
    own, clips, videos = AccuracyTally(), 0, 0
    for group in groups:
        clips += len(group.clips)
        failures |= {name: failures[name] or why for name, why in group.failures.items()}
        for rows in _list_videos(group.clips):
            views, expected = group.clips[rows], group.reference[rows]
            given = None if names is None else views[0].label
            label = None if given is None else find_class(given, names or (), expected.shape[1])
            videos += 1
            if label is not None:
                own.add(expected, label)
            for name, logits in group.artifacts.items():
                if failures[name] is None:
                    tallies[name].add(VideoLogits(views, expected, label), logits[rows])
    if not clips:
        raise ClipError("no clip to compare", fix="give a source with at least one readable video")
    reports = (tallies[name].report(name, entry.runner, failures[name]) for name, entry in entries.items())
    checked = tuple(_check(report, entries[report.artifact].limits) for report in reports)
    return Comparison(reference, clips, videos, own.videos, own.report(), checked)


def track(groups: Iterable[GroupLogits], total: int, progress: Progress) -> Iterator[GroupLogits]:
    """The same groups, with progress in clips."""
    done = 0
    progress("comparing clips", done, total or None)
    for group in groups:
        yield group
        done += len(group.clips)
        progress("comparing clips", done, total or None)


def _check(report: ComparisonReport, limits: Limits) -> ComparisonReport:
    """Hold the figures against limits; where no clip was compared, there are none to hold."""
    return replace(report, checks=check_limits(report, limits)) if report.clips else report


def _same_video(before: Clip | View, clip: Clip | View) -> bool:
    return before.name == clip.name and clip.view > before.view


def _list_videos(clips: Sequence[View]) -> Iterator[slice]:
    """Which rows are the views of one video."""
    start = 0
    for row in range(1, len(clips) + 1):
        if row == len(clips) or not _same_video(clips[row - 1], clips[row]):
            yield slice(start, row)
            start = row
