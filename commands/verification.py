"""Verifying one folder: its artifacts against its reference on clips, and the document of what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Clip, Precision, Progress
from . import comparing, steps
from .bisecting import bisect_failures
from .evidence import Evidence, gather_evidence
from .running import Reference, Runtime
from .verify_document import document_verification

if TYPE_CHECKING:
    from ..exporter.manifest import Manifest
    from ..runtimes.compare import Comparison
    from ..runtimes.limits import Limits


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a user asks of a verification, the same for every folder."""

    clips: Path | None
    labels: Path | None
    views: int
    skip_unreadable: bool
    against: str
    runtime: Runtime | None
    reference: Reference
    checkpoint: Path | None
    limits: Mapping[Precision, Limits]
    tolerance: float | None
    layers: bool
    bisect: bool
    plan: bool
    pictures: bool  # frames of the worst clips, for a page


@dataclass(frozen=True, slots=True)
class Verified:
    """One folder's verification; `document` is what `--json` prints. `own_clips`: they came with the reference."""

    manifest: Manifest
    comparison: Comparison
    clips: Iterable[Clip]
    own_clips: bool
    document: Mapping[str, Any]


def select_unchanged(manifest: Manifest, options: VerifyOptions) -> tuple[Artifact, ...]:
    """What of a folder is to be compared, each file there and unchanged. Raises ManifestError."""
    from ..exporter.manifest import check_artifact

    artifacts = comparing.select_artifacts(manifest, options.against, options.runtime, options.reference)
    for artifact in artifacts:
        check_artifact(artifact)
    return artifacts


def verify_folder(
    manifest: Manifest, artifacts: tuple[Artifact, ...], options: VerifyOptions, progress: Progress
) -> Verified:
    """Compare the artifacts with the folder's own reference; what was opened is closed again at the end.

    An artifact out of its limits is in the result, not an error. Raises what opening the reference and the clips
    raises.
    """
    from ..runtimes.compare import compare

    with ExitStack() as opened:
        progress("loading the reference")
        expected, own = comparing.open_reference(manifest, options.checkpoint, options.reference)
        opened.enter_context(expected)
        given = own
        if given is None:
            given = steps.open_clips(options.clips, manifest.preprocessing, options.views, options.skip_unreadable)
        source = comparing.label_clips(given, options.labels)
        candidates = comparing.open_candidates(artifacts, options.limits, options.tolerance, opened)
        names = comparing.list_class_names(manifest, source)
        comparison = compare(expected, candidates, source, names, progress)
        basis = Evidence(manifest, artifacts, source, options.checkpoint)
        parts = gather_evidence(basis, progress, plan=options.plan, layers=options.layers)
        parts["bisection"] = (
            bisect_failures(basis, expected, candidates, comparison, progress) if options.bisect else None
        )
    progress("writing the report")
    document = document_verification(manifest, comparison, source, parts, pictures=options.pictures)
    return Verified(manifest, comparison, source, own is not None, document)
