"""Compare artifacts with what they were made from, and refuse those that do not compute the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Precision
from ..core.class_names import read_labels
from ..core.errors import ParityError
from ..core.manifest import Manifest
from ..core.reporter import Reporter
from ..core.runner import Runner
from ..core.types import Artifact, Clip
from .runners import limits_of, open_artifact

if TYPE_CHECKING:
    from ..verification.limits import LimitCheck, Limits
    from ..verification.tally import ComparisonReport

PARITY_FIX = (
    "see where the error enters with `dualexport verify --layers`, which layers must not be INT8 with --bisect, "
    "or allow more with --limits"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """The clips that artifacts are compared on, and the largest logit difference, None for that of each precision."""

    clips: Iterable[Clip]
    tolerance: float | None = None


def compare_with(
    reference: Runner,
    artifacts: Mapping[str, Artifact],
    proof: Proof,
    limits: Mapping[Precision, Limits],
    reporter: Reporter,
) -> tuple[ComparisonReport, ...]:
    """Compare artifacts, by name, with a reference that is open, on a few clips, which stay in memory.

    One artifact is loaded and run at a time, by the runtime of its format; the reference computes each clip once.
    `limits` are by precision; the proof's tolerance goes before theirs.
    """
    from ..runtimes.stored_runner import CachedRunner
    from ..verification.compare import Candidate, compare

    clips = tuple(proof.clips)
    reports: list[ComparisonReport] = []
    with CachedRunner(reference) as cached:
        for name, artifact in artifacts.items():
            with open_artifact(artifact) as runner:
                candidate = Candidate(runner, limits_of(artifact, limits, proof.tolerance))
                reports += compare(cached, {name: candidate}, clips, names=None, progress=reporter).reports
    return tuple(reports)


def require_parity(
    reports: Iterable[ComparisonReport], reference: str = "the PyTorch network", fix: str = PARITY_FIX
) -> None:
    """Raise ParityError for the first report that is out of its limits; `fix` is what to do about it."""
    for report in reports:
        if report.failure is not None:
            raise ParityError(
                f"{report.artifact} did not run: {report.failure}",
                fix="build engines on the device that runs them, or leave them out with --runtime onnx"
                if report.artifact.endswith(".engine")
                else "export it again with `dualexport onnx`",
            )
        if not report.passed:
            missed = ", ".join(describe_check(check) for check in report.failed_checks)
            raise ParityError(
                f"{report.artifact} differs from {reference}: {missed}; worst on {report.worst_clip}",
                fix=fix,
            )


def describe_check(check: LimitCheck) -> str:
    """`cosine 0.98 (limit 0.99)`."""
    return f"{check.name.replace('_', ' ')} {check.got:.4g} (limit {check.limit:g})"


def name_classes(manifest: Manifest, labels: Path | None) -> tuple[str, ...]:
    """Class names in order: from the file that the user gave, else the manifest's, else "class 0" and so on."""
    return manifest.labels if manifest.labels and labels is None else read_labels(labels, manifest.classes)
