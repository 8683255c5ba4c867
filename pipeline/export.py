"""From a checkpoint to ONNX files that are proven to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Graph, InputType, Precision
from ..core.extras import needing_extra
from ..core.files import StagedSet, staged_set
from ..core.manifest import Manifest, add_artifacts, open_manifest, tool_versions
from ..core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ..core.runner import take_input
from ..core.types import Artifact, Clip
from ..exporter.dualformer.token_grids import list_selected_grids
from .clips import Clips, generate_clips, note_skipped
from .export_options import FLOATS, ExportOptions, bounds_of, check_options, require_memory
from .load import Network
from .parity import Proof, compare_with, require_parity
from .quantize import Quantized, QuantizeOptions, quantize
from .runners import wrap_network

if TYPE_CHECKING:
    from ..clips.source import SkippedVideo
    from ..exporter.onnx_export import TracedNetwork
    from ..verification.tally import ComparisonReport

GENERATED_CLIPS = 1


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that were written to `folder`, and how close those in FP32 and FP16 come to the PyTorch network.

    `reports` has one for each of these. INT8, if it was asked for, has its own in `quantized`.
    """

    folder: Path
    artifacts: tuple[Artifact, ...]
    reports: tuple[ComparisonReport, ...]
    quantized: Quantized | None = None
    skipped: tuple[SkippedVideo, ...] = ()


def export(
    network: Network,
    folder: Path | str | None = None,
    options: ExportOptions | None = None,
    clips: Clips | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Exported:
    """Write ONNX files of `network` and their manifest to `folder`, all of them or none; by default to `network.name`.

    Before the files get their names, ONNX Runtime runs them against the PyTorch network on clips, without `clips` on a
    generated one. A folder that holds the same network keeps its other files. Raises OptionError, ExportError,
    ClipError, OutputError, ManifestError for a manifest in `folder` that cannot be read, and ParityError for a file
    that does not compute the same.
    """
    options = options or ExportOptions()
    precisions = check_options(options, clips)
    reporter = Reporter(progress, notify)
    _note_network(network, reporter)
    require_memory(network, bounds_of(options.batch)[1])
    manifest = _describe(network, Path(folder or network.name))
    with staged_set(manifest.folder) as staging:
        eight = next((precision for precision in precisions if precision.is_eight_bit), None)
        floats = FLOATS if eight else precisions
        proof, skipped = _read_proof(network, options, clips, reporter)
        artifacts = _write_files(network, staging, floats, options, proof, reporter)
        reports = _compare(network, artifacts, Proof(proof, options.tolerance), reporter)
        artifacts = tuple(replace(file, path=manifest.folder / file.path.name) for file in artifacts)
        add_artifacts(staging, manifest, artifacts)
    quantized = None
    if eight:
        asked = QuantizeOptions(precision=eight)
        quantized = quantize(manifest.folder, clips, asked, progress=progress, notify=notify)
        artifacts = (*artifacts, quantized.artifact)
    return Exported(manifest.folder, artifacts, reports, quantized, skipped)


def _describe(network: Network, folder: Path) -> Manifest:
    """The manifest to write; refuses one in the folder that cannot be read."""
    config = network.module.config
    return open_manifest(
        Manifest(
            folder,
            config.size,
            config.classes,
            network.weights,
            config.preprocessing,
            tools=tool_versions(),
            selected=list_selected_grids(config.frames, config.selections),
            labels=network.labels,
        )
    )


def _read_proof(
    network: Network, options: ExportOptions, clips: Clips | None, reporter: Reporter
) -> tuple[tuple[Clip, ...], tuple[SkippedVideo, ...]]:
    """The few clips that files are compared on, each one that the network takes, and the videos that were skipped."""
    config = network.module.config
    if clips is None:
        reporter.note("no --clips given: compared on a generated moving pattern")
        return generate_clips(GENERATED_CLIPS, config.preprocessing), ()
    reporter("reading clips")
    most = min(options.proof_clips, clips.max_clips or options.proof_clips)
    source = replace(clips, max_clips=most).open(config.preprocessing)
    read = tuple(islice(source, most))
    input_type = InputType(options.input)
    for clip in read:
        take_input(clip, input_type.value, config.input_shape(input_type))
    note_skipped(source, reporter)
    return read, source.skipped


def _write_files(
    network: Network,
    staging: StagedSet,
    precisions: Sequence[Precision],
    options: ExportOptions,
    clips: Sequence[Clip],
    reporter: Reporter,
) -> tuple[Artifact, ...]:
    """Trace the network once, and write a file in each precision."""
    with needing_extra("onnx"):
        from ..exporter.onnx_export import OnnxOptions, trace
    least, most = bounds_of(options.batch)
    traced = trace(
        network.module,
        OnnxOptions(
            graph=Graph(options.graph),
            input_type=InputType(options.input),
            batch=most,
            least_batch=least,
            opset=options.opset,
            with_selection=options.with_selection,
        ),
        reporter,
    )
    dividing = _measure_half(traced, clips, reporter) if Precision.FP16 in precisions else frozenset()
    artifacts = []
    for precision in precisions:
        reporter(f"writing and checking the {precision.value} file")
        path = staging.path(f"{network.name}.{precision.value}.onnx")
        artifacts.append(traced.write(path, precision, parent=network.weights.sha256, dividing_behind=dividing))
    return tuple(artifacts)


def _measure_half(traced: TracedNetwork, clips: Sequence[Clip], reporter: Reporter) -> frozenset[str]:
    """The layers that may standardize behind their product in FP16, measured on clips.

    The weights and tensors that half precision cannot hold are noted with their range on clips: if the comparison of
    the files fails, they may be the reason.
    """
    import torch

    from ..exporter.half_precision import inspect_half

    reporter("looking for values that half precision cannot hold")
    dtype = traced.options.input_type.value
    found = inspect_half(traced.module, [torch.from_numpy(clip.network_input(dtype)[None]) for clip in clips])
    for one in (*found.weights, *found.tensors):
        problem = "overflows" if one.overflows else "vanishes"
        reporter.note(f"{problem} in half precision: {one.name}, {one.low:.3g} to {one.high:.3g}")
    return found.dividing_behind


def _compare(
    network: Network, artifacts: Sequence[Artifact], proof: Proof, reporter: Reporter
) -> tuple[ComparisonReport, ...]:
    """Compare the files with the PyTorch network by the default limits; raises ParityError."""
    from ..verification.limits import choose_defaults

    limits = choose_defaults(selects_tokens=bool(network.module.config.selections))
    with wrap_network(network.module) as reference:
        reports = compare_with(reference, {file.path.name: file for file in artifacts}, proof, limits, reporter)
    require_parity(reports)
    return reports


def _note_network(network: Network, reporter: Reporter) -> None:
    """Tell what a user might overlook about the weights and the selections."""
    weights = network.weights
    if network.ignored:
        reporter.note(f"left out, inference does not need it: {', '.join(network.ignored)}")
    if weights.are_random:
        reporter.note(f"the weights are random (seed {weights.seed}): give --checkpoint to export a trained network")
    if weights.selector_seed is not None:
        reporter.note(f"the selectors are random (seed {weights.selector_seed}): what they keep means nothing")
    config = network.module.config
    if config.trained_frames not in (None, config.frames):
        reporter.note(
            f"clips of {config.frames} frames, of a network trained on {config.trained_frames}: see what that costs in "
            "accuracy with `dualexport verify` of this folder beside one of all frames, on labelled videos"
        )
    for line in network.uncovered:
        reporter.note(line)
