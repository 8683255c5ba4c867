"""The document of a verification: all that JSON, HTML, Markdown, JUnit and the terminal show.

Fields are named as the keys of the JSON. A figure that is no finite number is None.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ..core.plain import to_plain
from .bench import Latency, Measured, Scalar
from .thresholds import Thresholds

FORMAT = 1  # raised when a reader of the former would misread it


class Share(msgspec.Struct, frozen=True):
    """`count` of `total`, as a share with its 95% interval from `low` to `high`."""

    count: int
    total: int
    share: float
    low: float
    high: float


class Accuracy(msgspec.Struct, frozen=True):
    """Videos classified as labelled: by one view alone, and by all views together."""

    single_view: Share
    top1: Share
    top5: Share


class PairedTest(msgspec.Struct, frozen=True):
    """Labelled videos that only the reference (`lost`) or only the artifact (`gained`) classifies correctly."""

    lost: int
    gained: int
    drop: float
    p_value: float

    @property
    def is_significant(self) -> bool:
        return self.p_value < 0.05


class ClassScore(msgspec.Struct, frozen=True):
    """A class, and the probability that a network gives it."""

    index: int
    probability: float | None


class WorstClip(msgspec.Struct, frozen=True):
    """A clip on which an artifact is far from the reference; `thumbnail` is a data address of some frames."""

    name: str
    view: int
    label: int | None
    difference: float | None
    kl_divergence: float | None
    reference: ClassScore
    artifact: ClassScore
    thumbnail: str | None = None

    @property
    def title(self) -> str:
        return f"{self.name} (view {self.view})"


class ClassAgreement(msgspec.Struct, frozen=True):
    """Of the clips that the reference takes for class `index`, the number that the artifact takes for it too."""

    index: int
    clips: int
    agreed: int


class LimitCheck(msgspec.Struct, frozen=True):
    """One limit and what was reached; `at_least` says on which side of the limit `got` has to be."""

    name: str
    got: int | float | None
    limit: int | float
    at_least: bool
    passed: bool
    remark: str = ""


class Work(msgspec.Struct, frozen=True):
    """Multiply-accumulates a clip that an ONNX file asks for, and their shares by precision."""

    gmacs_a_clip: float
    shares: dict[str, float]

    @property
    def eight_bit_share(self) -> float:
        return self.shares.get("int8", 0.0) + self.shares.get("fp8", 0.0)


class ArtifactReport(msgspec.Struct, frozen=True):
    """One artifact against the reference; see docs/verify.md for the figures."""

    artifact: str
    runner: str
    clips: int
    videos: int
    top1_agreement: float
    top5_agreement: float
    largest_difference: float | None
    mean_difference: float | None
    cosine: float | None
    kl_divergence: float | None
    snr_db: float | None
    not_finite: int
    agreement: Share | None
    accuracy: Accuracy | None
    paired: PairedTest | None
    worst: tuple[WorstClip, ...]
    classes: tuple[ClassAgreement, ...]
    checks: tuple[LimitCheck, ...]
    failure: str | None
    passed: bool
    worst_clip: str
    precision: str
    graph: str
    format: str
    work: Work | None
    size_bytes: int | None
    sha256: str
    thresholds: Thresholds | None = None

    @property
    def size_mb(self) -> float | None:
        return None if self.size_bytes is None else self.size_bytes / 1e6


class Network(msgspec.Struct, frozen=True):
    """The network that was verified."""

    name: str
    size: str
    classes: int
    labels: tuple[str, ...]
    random_weights: bool
    selections: tuple[str, ...]


class Reference(msgspec.Struct, frozen=True):
    """The reference of a comparison, the number of clips, and its own accuracy or why that is not known."""

    name: str
    clips: int
    videos: int
    labelled: int
    accuracy: Accuracy | None
    accuracy_unknown: str | None


class Decision(msgspec.Struct, frozen=True):
    """To ship or not, what speaks against it, and what the evidence does not cover."""

    ship: bool
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


class SkippedVideo(msgspec.Struct, frozen=True):
    """A video that could not be read, and why."""

    name: str
    reason: str


class BlockError(msgspec.Struct, frozen=True):
    """The distance of a block's output from the reference's, relative to its norm."""

    name: str
    relative_error: float | None
    largest_difference: float | None


class BlockErrors(msgspec.Struct, frozen=True):
    """One artifact's errors block by block, and the block at which the error enters, if one stands out."""

    artifact: str
    clips: int
    blocks: tuple[BlockError, ...]
    enters_at: str | None
    missing: tuple[str, ...]
    remark: str


class Reached(msgspec.Struct, frozen=True):
    """The figures that a file reaches with some of its layers unquantized."""

    clips: int
    top1_agreement: float
    cosine: float | None
    kl_divergence: float | None
    snr_db: float | None


class Bisection(msgspec.Struct, frozen=True):
    """The layers of an INT8 file that have to stay unquantized for it to hold its limits; `command` makes it so."""

    artifact: str
    remark: str
    layers: tuple[str, ...]
    patterns: tuple[str, ...]
    command: str
    graphs_tried: int
    reaches: Reached | None


class Plan(msgspec.Struct, frozen=True):
    """The figures of a compiled plan, without its layers."""

    format: int
    model: str
    compiler: str
    source: str
    layer_count: int
    layers_by_kind: dict[str, int]
    attentions: int
    fused_attentions: int
    moved_mb: float
    weights_mb: float
    gmacs: float
    unattributed_gmacs: float
    uncounted_nodes: tuple[str, ...]
    work_shares: dict[str, float]
    asked_shares: dict[str, float]
    moved_mb_by_kind: dict[str, float]


class Verification(msgspec.Struct, frozen=True):
    """One network's verification. None stands for what was not asked for or not measured."""

    folder: str
    format: int
    tools: dict[str, str]
    passed: bool
    decision: Decision
    network: Network
    reference: Reference
    reports: tuple[ArtifactReport, ...]
    skipped: tuple[SkippedVideo, ...]
    environment: dict[str, Scalar]
    latency: Latency | None
    layers: tuple[BlockErrors, ...] | None
    plans: tuple[Plan, ...] | None
    bisection: tuple[Bisection, ...] | None
    manifest: dict[str, Any]

    def find_latency(self, report: ArtifactReport) -> Measured | None:
        """The measurement of an artifact in wall time, if there is one."""
        results = self.latency.results if self.latency else ()
        return next((one for one in results if (one.sha256, one.copies) == (report.sha256, "included")), None)


class Document(msgspec.Struct, frozen=True):
    """The verification of one network or of several, and the decision over all of them."""

    networks: tuple[Verification, ...]
    decision: Decision

    @property
    def passed(self) -> bool:
        return all(network.passed for network in self.networks)

    @property
    def named(self) -> tuple[tuple[str, Verification], ...]:
        """Each network with its name; where a name comes twice, with its folder."""
        counts = Counter(one.network.name for one in self.networks)
        return tuple((one.network.name if counts[one.network.name] == 1 else one.folder, one) for one in self.networks)


def to_mapping(document: Document) -> dict[str, Any]:
    """The document as JSON has it: that of one network alone, or of several below `networks`, with their folders."""
    networks: list[dict[str, Any]] = to_plain(document.networks)
    if len(networks) == 1:
        return {key: value for key, value in networks[0].items() if key != "folder"}
    head = {"format": FORMAT, "passed": document.passed, "decision": to_plain(document.decision)}
    return {**head, "networks": networks}
