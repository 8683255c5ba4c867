"""The steps that commands share: open clips, export and prove, compare, and ask for an extra that is missing.

Like the commands, and for them alone, this composes the parts, which know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..clips.read_ahead import ReadAhead
from ..core.choices import Graph, Precision
from ..core.errors import ParityError
from ..core.files import staged_set
from ..core.reporter import Reporter
from ..core.runner import Runner
from ..core.types import Artifact, Clip, Preprocessing
from .runners import limits_of, open_artifact, wrap_network

if TYPE_CHECKING:
    from ..clips.source import SkippedVideo
    from ..core.manifest import Manifest, Weights
    from ..exporter.dualformer.architecture import DualFormerConfig
    from ..exporter.dualformer.network import DualFormer
    from ..exporter.onnx_export import OnnxOptions
    from ..verification.limits import LimitCheck, Limits
    from ..verification.tally import ComparisonReport

GENERATED_CLIPS = 1
PARITY_FIX = (
    "see where the error enters with `dualexport verify --layers`, which layers must not be INT8 with --bisect, "
    "or allow more with --limits"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """The clips that artifacts are compared on, and the largest logit difference, None for that of each precision."""

    clips: Iterable[Clip]
    tolerance: float | None = None


def export_proven(
    network: DualFormer,
    manifest: Manifest,
    variants: Sequence[OnnxOptions],
    proof: Proof,
    reporter: Reporter,
) -> tuple[tuple[Artifact, ...], tuple[ComparisonReport, ...]]:
    """Export every variant under a temporary name and compare it on the proof's clips; all files appear, or none."""
    from ..core.manifest import add_artifacts, tool_versions
    from ..exporter.onnx_export import export_onnx

    with staged_set(manifest.folder) as staging:
        staged = {}
        for options in allow_dividing(network, variants, proof.clips, reporter):
            name = f"{manifest.name}.{options.precision.value}.onnx"
            path = staging.path(name)
            staged[name] = export_onnx(network, path, options, parent=manifest.weights.sha256, progress=reporter)
        reports = compare_artifacts(network, staged, proof, reporter)
        for options in variants:
            if options.precision is Precision.FP16:  # before a failed comparison ends this: it may be the reason
                note_half_precision(network, options, proof.clips, reporter)
        require_parity(reports)
        artifacts = tuple(replace(file, path=manifest.folder / name) for name, file in staged.items())
        add_artifacts(staging, replace(manifest, tools=tool_versions()), artifacts)
    return artifacts, reports


def allow_dividing(
    network: DualFormer, variants: Sequence[OnnxOptions], clips: Iterable[Clip], reporter: Reporter
) -> list[OnnxOptions]:
    """`variants`, with the layers that may standardize behind their product in the folded FP16 graph.

    Measured on the first clips.
    """
    import torch

    from ..exporter.half_precision import find_dividing_behind
    from ..exporter.variants import make_folded

    allowed = []
    for options in variants:
        layers = options.dividing_behind
        if (options.graph, options.precision) == (Graph.FOLDED, Precision.FP16):
            reporter("measuring which layers may standardize behind their product")
            folded = make_folded(network, options.input_type)
            few = (torch.from_numpy(clip.network_input(options.input_type.value)[None]) for clip in islice(clips, 2))
            layers = find_dividing_behind(folded, few)
        allowed.append(replace(options, dividing_behind=layers))
    return allowed


def compare_artifacts(
    network: DualFormer, artifacts: Mapping[str, Artifact], proof: Proof, reporter: Reporter
) -> tuple[ComparisonReport, ...]:
    """Compare artifacts, by name, with the network they were made from, by the default limits."""
    from ..verification.limits import choose_defaults

    limits = choose_defaults(selects_tokens=bool(network.config.selections))
    with wrap_network(network) as reference:
        return compare_with(reference, artifacts, proof, limits, reporter)


def compare_with(
    reference: Runner,
    artifacts: Mapping[str, Artifact],
    proof: Proof,
    limits: Mapping[Precision, Limits],
    reporter: Reporter,
) -> tuple[ComparisonReport, ...]:
    """Compare artifacts, by name, with a reference that is open; each runs on the runtime of its format.

    `limits` are by precision; the proof's tolerance goes before theirs.
    """
    from ..verification.compare import Candidate, compare

    with ExitStack() as opened:
        candidates = {
            name: Candidate(opened.enter_context(open_artifact(artifact)), limits_of(artifact, limits, proof.tolerance))
            for name, artifact in artifacts.items()
        }
        return compare(reference, candidates, ReadAhead(proof.clips), names=None, progress=reporter).reports


def note_half_precision(network: DualFormer, options: OnnxOptions, clips: Iterable[Clip], reporter: Reporter) -> None:
    """Name the weights and tensors that half precision cannot hold, with their range on clips."""
    import torch

    from ..exporter.half_precision import find_tensors_beyond_half, find_weights_beyond_half
    from ..exporter.variants import make_variant

    reporter("looking for values that half precision cannot hold")
    variant = make_variant(network, options.graph, Precision.FP32, options.input_type)
    frames = (torch.from_numpy(clip.network_input(options.input_type.value)[None]) for clip in clips)
    for found in (*find_weights_beyond_half(variant), *find_tensors_beyond_half(variant, frames)):
        problem = "overflows" if found.overflows else "vanishes"
        reporter.note(f"{problem} in half precision: {found.name}, {found.low:.3g} to {found.high:.3g}")


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


def open_clips(
    path: Path | None, preprocessing: Preprocessing, views: int, skip_unreadable: bool, generated: int = GENERATED_CLIPS
) -> Iterable[Clip]:
    """The clips of a source; without one, so many generated ones."""
    if path is None:
        from ..clips.synthetic import moving_patterns

        return moving_patterns(generated, preprocessing)
    from ..clips.source import ClipSource

    return ClipSource(path, preprocessing, views=views, skip_unreadable=skip_unreadable)


def list_skipped(source: Iterable[Clip]) -> tuple[SkippedVideo, ...]:
    """The videos that were skipped in the last pass over `source`."""
    skipped: tuple[SkippedVideo, ...] = getattr(source, "skipped", ())
    return skipped


def note_clips(source: Iterable[Clip], reporter: Reporter) -> None:
    if isinstance(source, tuple):
        reporter.note("no --clips given: compared on a generated moving pattern")
    for skipped in list_skipped(source):
        reporter.note(f"skipped {skipped.reason}")


def note_selections(
    config: DualFormerConfig, weights: Weights, reporter: Reporter
) -> dict[str, tuple[str, ...] | bool]:
    """What the export's summary says about token selection, if there is any; what a user might overlook is noted."""
    from ..exporter.dualformer.token_grids import describe_selections, describe_uncovered

    if not config.selections:
        return {}
    uncovered = describe_uncovered(config.frames, config.selections)
    untrained = weights.are_random or weights.selector_seed is not None
    if weights.selector_seed is not None:
        reporter.note(f"the selectors are random (seed {weights.selector_seed}): what they keep means nothing")
    for line in uncovered:
        reporter.note(line)
    return {
        "selections": describe_selections(config.frames, config.selections),
        "left_out_of_keys": uncovered,
        "untrained_selector": untrained,
    }


def name_classes(manifest: Manifest, labels: Path | None) -> tuple[str, ...]:
    """Class names in order: from the file that the user gave, else the manifest's, else "class 0" and so on."""
    from ..core.class_names import read_labels

    return manifest.labels if manifest.labels and labels is None else read_labels(labels, manifest.classes)
