"""Verifying one folder: its artifacts against its reference on clips, and the document of what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.choices import Reference
from ...core.reporter import Reporter
from ...core.types import Artifact, Clip
from ...report.document import Verification
from .. import parity
from ..runners import limits_of
from . import inputs
from .bisect import bisect_failures
from .document import document_verification
from .job import VerifyJob
from .sections import Evidence, gather_sections
from .spread import Spread, compare_clips

if TYPE_CHECKING:
    from ...core.manifest import Manifest
    from ...verification.compare import Comparison


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a user asks of a verification, the same for every folder."""

    clips: Path | None
    labels: Path | None
    views: int
    skip_unreadable: bool
    reference: Reference
    checkpoint: Path | None
    limits: Path | None
    tolerance: float | None
    spread: Spread
    layers: bool
    bisect: bool
    plan: bool
    pictures: bool  # frames of the worst clips, for a page


@dataclass(frozen=True, slots=True)
class Verified:
    """One folder's verification; `document` is its part of the document. `own_clips`: they came with the reference."""

    manifest: Manifest
    comparison: Comparison
    clips: Iterable[Clip]
    own_clips: bool
    document: Verification


def verify_folder(
    manifest: Manifest, artifacts: tuple[Artifact, ...], options: VerifyOptions, reporter: Reporter
) -> Verified:
    """Compare the artifacts with the folder's own reference; what was opened is closed again at the end.

    An artifact out of its limits, changed or gone is in the result, not an error. Raises what opening the reference and
    the clips raises.
    """
    from ...verification.limits import choose_defaults, read_limits

    defaults = choose_defaults(selects_tokens=bool(manifest.selections))
    allowed = read_limits(options.limits, defaults)
    held = {artifact.path.name: limits_of(artifact, allowed, options.tolerance) for artifact in artifacts}
    job = VerifyJob(manifest, artifacts, options.reference, options.checkpoint, held)
    given = parity.open_clips(options.clips, manifest.preprocessing, options.views, options.skip_unreadable)
    labelled = inputs.label_clips(given, options.labels)
    comparison, source, store = compare_clips(job, labelled, options.spread, reporter)
    ran = [artifact for artifact, one in zip(artifacts, comparison.reports, strict=True) if one.failure is None]
    basis = Evidence(manifest, ran, source, options.checkpoint)
    sections = gather_sections(basis, reporter, plan=options.plan, layers=options.layers)
    if options.bisect:
        sections = replace(sections, bisection=bisect_failures(job, basis, comparison, reporter))
    reporter("writing the report")
    document = document_verification(manifest, comparison, source, sections, pictures=options.pictures)
    if store is not None:
        store.discard()
    return Verified(manifest, comparison, source, options.reference is Reference.EXPECTED, document)
