"""Verification of folders: their artifacts against their references on clips, and the document of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...clips.source import ClipSource
from ...core.choices import Decoder, Reference, Runtime, choose, choose_or_none
from ...core.errors import OptionError
from ...core.logit_store import LogitStore
from ...core.manifest import Manifest
from ...core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ...core.types import Clip
from ...report.document import Document, Verification
from ...report.write import require_reports, write_reports
from ...verification.compare import Comparison
from ...verification.limits import OwnLimits, choose_defaults, override_limits, read_limits
from .. import parity
from ..clips import Clips, generate_clips, note_skipped
from ..runners import limits_of, skip_stale
from . import inputs, prerequisites
from .bisect import bisect_failures
from .document import choose_fix, combine_documents, document_verification
from .job import VerifyJob
from .sections import Evidence, gather_sections
from .spread import Spread, compare_clips


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of a verification, the same for every folder.

    `against` names artifacts: `all`, or precisions and file names with commas between; of these, those that `runtime`
    runs. `checkpoint` says where the reference's file lies by now. `limits` is a TOML file, and `tolerance` the largest
    logit difference in the place of its own. `decoder` decodes and scales videos for the artifacts; the reference gets
    the published preprocessing. `workers` spread the videos over processes, or over the Ray cluster at
    `ray`. `layers`, `bisect` and `plan` look further. `reports` (.html, .md, .json) and `junit` are written at the end.
    """

    against: str = "all"
    runtime: Runtime | str | None = None
    reference: Reference | str = Reference.TORCH
    checkpoint: Path | str | None = None
    limits: Path | str | None = None
    tolerance: float | None = None
    decoder: Decoder | str = Decoder.FFMPEG
    workers: int | None = None
    ray: str | None = None
    layers: bool = False
    bisect: bool = False
    plan: bool = False
    reports: Sequence[Path | str] = ()
    junit: Path | str | None = None

    @property
    def files(self) -> tuple[tuple[Path, ...], Path | None]:
        """The reports and the JUnit file that are to be written."""
        return tuple(map(Path, self.reports)), None if self.junit is None else Path(self.junit)

    @property
    def pictures(self) -> bool:
        """True where a report shows frames of the worst clips."""
        return any(path.suffix.lower().startswith(".htm") for path in self.files[0])


@dataclass(frozen=True, slots=True)
class VerifiedNetwork:
    """One folder's part of a verification, and its part of the document."""

    manifest: Manifest
    comparison: Comparison
    verification: Verification


@dataclass(frozen=True, slots=True)
class Verified:
    """A verification of one network or several, and the document that all reports are made from."""

    networks: tuple[VerifiedNetwork, ...]
    document: Document

    @property
    def passed(self) -> bool:
        """True where every artifact holds its limits."""
        return all(network.comparison.passed for network in self.networks)

    def write(self, *paths: Path | str) -> None:
        """Write reports, each in the form that its suffix names: .html, .md or .json. Raises OutputError."""
        reports = [Path(path) for path in paths]
        require_reports(reports)
        write_reports(self.document, reports)

    def require_passed(self) -> None:
        """Raise ParityError for the first artifact that misses a limit, with the cause where it was found."""
        for network in self.networks:
            computed = network.comparison.reference.startswith("PyTorch")
            name = "the PyTorch network" if computed else network.comparison.reference
            parity.require_parity(network.comparison.reports, name, choose_fix(network.verification))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A job with the clips to compare on, and the class names that labels are looked up in; None without any."""

    job: VerifyJob
    clips: Iterable[Clip]
    names: tuple[str, ...] | None


def verify(
    folders: Path | str | Sequence[Path | str] = (),
    clips: Clips | None = None,
    options: VerifyOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Verified:
    """Compare the artifacts in each folder with the folder's own reference, and hold them against limits.

    Without folders, that of the only network in the current one; without clips, a generated one. All that it needs (a
    library, a checkpoint, a place to write) is asked for before the first clip is decoded. An artifact out of its
    limits, changed, gone or broken off is in the result, not an error. A run that breaks off goes on when it is asked
    for again. Raises DualExportError.
    """
    options, reporter = options or VerifyOptions(), Reporter(progress, notify)
    prepared = _prepare(folders, clips, options, reporter)
    stores: list[LogitStore] = []
    networks = tuple(_verify(one, options, stores, reporter) for one in prepared)
    document = combine_documents([network.verification for network in networks])
    write_reports(document, *options.files)
    for store in stores:
        store.discard()
    return Verified(networks, document)


def find_conflict(clips: Clips | Path | None, options: VerifyOptions) -> str | None:
    """Name options that exclude each other; raises OptionError for a word that is no choice."""
    reference = choose(Reference, options.reference, "reference")
    if choose_or_none(Runtime, options.runtime, "runtime") is Runtime.TORCH:
        return "the PyTorch network is what artifacts are compared with: --runtime names another one"
    if reference is Reference.EXPECTED and clips is not None:
        return "expected outputs are those of the bundle's own clips: leave --clips out"
    if clips is None and (options.workers or options.ray or reference is Reference.STORED):
        return "--workers, --ray and --reference stored are for videos: give --clips"
    gstreamer = choose(Decoder, options.decoder, "decoder") is Decoder.GSTREAMER
    whole = reference is Reference.WHOLE
    if (gstreamer or whole) and clips is None:
        return f"{'--decoder gstreamer' if gstreamer else '--reference whole'} is for videos: give --clips"
    if (gstreamer or whole) and (options.layers or options.bisect or (gstreamer and whole)):
        return "--layers and --bisect compare on the same pixels: leave --decoder and --reference whole out"
    if options.ray and options.ray not in ("auto", "local") and ":" not in options.ray:
        return f"{options.ray} is no address: give HOST:PORT, or auto, to --ray"
    return None


def _prepare(
    folders: Path | str | Sequence[Path | str], clips: Clips | None, options: VerifyOptions, reporter: Reporter
) -> list[_Prepared]:
    """Read and ask for everything that is needed, of all folders, before any work."""
    conflict = find_conflict(clips, options)
    if conflict is not None:
        raise OptionError(conflict, fix="change one of the two")
    require_reports(*options.files)
    own_limits = read_limits(None if options.limits is None else Path(options.limits))
    manifests = inputs.find_networks(folders)
    prepared = [_prepare_one(manifest, clips, options, own_limits, reporter) for manifest in manifests]
    prerequisites.require_tools(plan=options.plan, layers=options.layers, bisect=options.bisect)
    prerequisites.require_decoder(choose(Decoder, options.decoder, "decoder"))
    if options.ray is not None:
        prerequisites.require_ray()
    for one in prepared:
        prerequisites.require_reference(one.job, with_network=options.layers)
    return prepared


def _prepare_one(
    manifest: Manifest, clips: Clips | None, options: VerifyOptions, own_limits: OwnLimits, reporter: Reporter
) -> _Prepared:
    reference = choose(Reference, options.reference, "reference")
    runtime = choose_or_none(Runtime, options.runtime, "runtime")
    artifacts = inputs.select_artifacts(manifest, options.against, runtime, reference)
    if options.against == "all":
        artifacts = skip_stale(artifacts, reporter.note)
    decoder = choose(Decoder, options.decoder, "decoder")
    same_pixels = decoder is not Decoder.GSTREAMER and reference is not Reference.WHOLE
    allowed = override_limits(
        choose_defaults(selects_tokens=bool(manifest.selections), same_pixels=same_pixels), own_limits
    )
    limits = {artifact.path.name: limits_of(artifact, allowed, options.tolerance) for artifact in artifacts}
    source = (
        _open_clips(manifest, clips, reference).shown_by(decoder)
        if clips
        else generate_clips(1, manifest.preprocessing)
    )
    names = inputs.list_class_names(manifest, source, reporter)
    if names is not None:
        inputs.require_known_labels(source, names, manifest.classes)
    checkpoint = Path(options.checkpoint) if options.checkpoint else None
    return _Prepared(VerifyJob(manifest, artifacts, reference, checkpoint, limits), source, names)


def _open_clips(manifest: Manifest, clips: Clips, reference: Reference) -> ClipSource:
    """The clips that the network takes; for the whole network as reference its own, of which artifacts see a part."""
    taken = manifest.preprocessing
    if reference is not Reference.WHOLE:
        return clips.open(taken)
    whole = inputs.find_whole_clip(manifest)
    return clips.open(whole).shown_at(whole.find_frames(taken))


def _verify(
    prepared: _Prepared, options: VerifyOptions, stores: list[LogitStore], reporter: Reporter
) -> VerifiedNetwork:
    """Verify one network; the logits that were computed are added to `stores`."""
    job = prepared.job
    spread = Spread(options.workers, options.ray)
    comparison, clips, store = compare_clips(job, prepared.clips, prepared.names, spread, reporter)
    if store is not None:
        stores.append(store)
    ran = [artifact for artifact, one in zip(job.artifacts, comparison.reports, strict=True) if one.failure is None]
    evidence = Evidence(job.manifest, ran, clips, job.checkpoint)
    sections = gather_sections(evidence, reporter, plan=options.plan, layers=options.layers)
    if options.bisect:
        sections = replace(sections, bisection=bisect_failures(job, evidence, comparison, reporter))
    reporter("writing the report")
    if isinstance(clips, tuple) and job.reference is not Reference.EXPECTED:
        reporter.note("no --clips given: compared on a generated moving pattern")
    note_skipped(clips, reporter)
    verification = document_verification(job.manifest, comparison, clips, sections, pictures=options.pictures)
    return VerifiedNetwork(job.manifest, comparison, verification)
