"""Running figures of one artifact against the reference, in memory that does not grow with the clips."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.types import Array
from .limits import LimitCheck
from .logits import View
from .measures import PairedTest, Share, cosine, kl_divergence, mcnemar_exact, signal_to_noise_db, softmax
from .thresholds import ClassThresholds, ThresholdTally

WORST_CLIPS = 10
TOP = 5


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class by its index, and the probability that a network gives it."""

    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class WorstClip:
    """A clip on which an artifact is far from the reference, and what either takes it for."""

    name: str
    view: int
    label: int | None
    difference: float
    kl_divergence: float
    reference: ClassScore
    artifact: ClassScore


@dataclass(frozen=True, slots=True)
class LabelAccuracy:
    """Videos classified as labelled: by the middle view alone, and by the mean of all views' probabilities."""

    single_view: Share
    top1: Share
    top5: Share


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Of the clips that the reference takes for class `index`, how many the artifact takes for it too."""

    index: int
    clips: int
    agreed: int


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The distance of one artifact from the reference on a set of clips, held against its limits.

    `top1_agreement` is the share of clips with the same best class, `top5_agreement` of those that have the
    reference's best class among their five best. `largest_difference` and `mean_difference` are of logits; `cosine`
    is the smallest over clips, of logits; `kl_divergence` the mean over clips, in nats; `snr_db` the energy of the
    reference's logits to that of the differences. `worst` begins with the clip of the largest difference. `failure`
    says why an artifact did not run. A NaN in any figure is a failure.
    """

    artifact: str
    runner: str
    clips: int
    videos: int = 0
    top1_agreement: float = 0.0
    top5_agreement: float = 0.0
    largest_difference: float = float("nan")
    mean_difference: float = float("nan")
    cosine: float = float("nan")
    kl_divergence: float = float("nan")
    snr_db: float = float("nan")
    not_finite: int = 0
    agreement: Share | None = None
    accuracy: LabelAccuracy | None = None
    paired: PairedTest | None = None
    worst: tuple[WorstClip, ...] = ()
    classes: tuple[ClassAgreement, ...] = ()
    thresholds: tuple[ClassThresholds, ...] = ()
    checks: tuple[LimitCheck, ...] = ()
    failure: str | None = None

    @property
    def worst_clip(self) -> str:
        """The clip with the largest logit difference."""
        return f"{self.worst[0].name} (view {self.worst[0].view})" if self.worst else "no clip"

    @property
    def passed(self) -> bool:
        return self.failure is None and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failed_checks(self) -> tuple[LimitCheck, ...]:
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True)
class VideoLogits:
    """The views of one video, and what the reference made of them: logits (views, classes)."""

    clips: Sequence[View]
    reference: Array
    label: int | None


@dataclass(slots=True)
class AccuracyTally:
    """The count of labelled videos that a network classifies as labelled."""

    videos: int = 0
    single_view: int = 0
    top1: int = 0
    top5: int = 0

    def add(self, logits: Array, label: int) -> bool:
        """Count one video, logits (views, classes), and say whether its views together are right."""
        mean = softmax(logits).mean(axis=0)
        right = bool(np.isfinite(mean).all()) and int(mean.argmax()) == label
        self.videos += 1
        self.single_view += int(logits[len(logits) // 2].argmax()) == label
        self.top1 += right
        self.top5 += label in _best(mean)
        return right

    def report(self) -> LabelAccuracy | None:
        if not self.videos:
            return None
        return LabelAccuracy(*(Share.of(count, self.videos) for count in (self.single_view, self.top1, self.top5)))


@dataclass(slots=True)
class Tally:
    """Counts and sums over clips, from which a `ComparisonReport` is made."""

    accuracy: AccuracyTally = field(default_factory=AccuracyTally)
    reference_accuracy: AccuracyTally = field(default_factory=AccuracyTally)
    thresholds: ThresholdTally = field(default_factory=ThresholdTally)
    videos: int = 0
    clips: int = 0
    agreed: int = 0
    agreed_top5: int = 0
    not_finite: int = 0
    lost: int = 0
    gained: int = 0
    difference_sum: float = 0.0
    divergence_sum: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    smallest_cosine: float = 1.0
    seen: Counter[int] = field(default_factory=Counter)
    kept: Counter[int] = field(default_factory=Counter)
    worst: list[tuple[float, int, WorstClip]] = field(default_factory=list)

    def add(self, video: VideoLogits, logits: Array) -> None:
        """Count one video; `logits` (views, classes) are the artifact's."""
        self.videos += 1
        with np.errstate(invalid="ignore", over="ignore"):
            for clip, expected, got in zip(video.clips, video.reference, logits, strict=True):
                self._add_clip(clip, video.label, expected.astype(np.float64), got.astype(np.float64))
            if video.label is not None:
                was_right = self.reference_accuracy.add(video.reference, video.label)
                is_right = self.accuracy.add(logits, video.label)
                self.lost += was_right and not is_right
                self.gained += is_right and not was_right
                for row in logits:
                    self.thresholds.add(softmax(row), video.label)

    def _add_clip(self, clip: View, label: int | None, expected: Array, got: Array) -> None:
        difference = np.abs(got - expected)
        finite = bool(np.isfinite(difference).all())
        best, found = int(expected.argmax()), int(got.argmax())
        divergence = float(kl_divergence(expected, got))
        self.not_finite += not finite
        self.clips += 1
        self.agreed += finite and best == found
        self.agreed_top5 += finite and best in _best(got)
        self.seen[best] += 1
        self.kept[best] += finite and best == found
        self.difference_sum += float(difference.mean())
        self.divergence_sum += divergence
        self.signal += float(expected @ expected)
        self.noise += float(difference @ difference)
        self.smallest_cosine = float(np.minimum(self.smallest_cosine, cosine(expected, got)))  # a NaN stays
        scores = (ClassScore(index, float(softmax(row)[index])) for index, row in ((best, expected), (found, got)))
        self._keep_worst(
            WorstClip(clip.name, clip.view, label, float(difference.max()), divergence, *scores), finite=finite
        )

    def _keep_worst(self, clip: WorstClip, *, finite: bool) -> None:
        rank = clip.difference if finite else float("inf")
        entry = (rank, -self.clips, clip)  # of equals, the first stays
        if len(self.worst) < WORST_CLIPS:
            heapq.heappush(self.worst, entry)
        else:
            heapq.heappushpop(self.worst, entry)

    def report(self, artifact: str, runner: str, failure: str | None = None) -> ComparisonReport:
        """Return the figures so far, without checks; there are none before the first clip."""
        if not self.clips:
            return ComparisonReport(artifact, runner, 0, failure=failure or "no clip was compared")
        labelled = self.accuracy.videos
        return ComparisonReport(
            artifact=artifact,
            runner=runner,
            clips=self.clips,
            videos=self.videos,
            top1_agreement=self.agreed / self.clips,
            top5_agreement=self.agreed_top5 / self.clips,
            largest_difference=max(self.worst, key=lambda entry: entry[:2])[2].difference,
            mean_difference=self.difference_sum / self.clips,
            cosine=self.smallest_cosine,
            kl_divergence=self.divergence_sum / self.clips,
            snr_db=signal_to_noise_db(self.signal, self.noise),
            not_finite=self.not_finite,
            agreement=Share.of(self.agreed, self.clips),
            accuracy=self.accuracy.report(),
            paired=_pair(self.lost, self.gained, labelled) if labelled else None,
            worst=tuple(entry[2] for entry in sorted(self.worst, key=lambda entry: entry[:2], reverse=True)),
            classes=tuple(ClassAgreement(index, self.seen[index], self.kept[index]) for index in sorted(self.seen)),
            thresholds=self.thresholds.report(),
            failure=failure,
        )


def _pair(lost: int, gained: int, videos: int) -> PairedTest:
    return PairedTest(lost, gained, (lost - gained) / videos, mcnemar_exact(lost, gained))


def _best(scores: Array) -> list[int]:
    """Indices of the five best classes, best first."""
    return [int(index) for index in np.argsort(-scores, kind="stable")[:TOP]]
