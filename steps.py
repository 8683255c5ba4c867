"""The steps that commands share: open clips, export and prove, compare, and ask for an extra that is missing.

Like cli.py, and for it alone, this composes the parts, which know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .contracts import (
    Artifact,
    Clip,
    MissingDependencyError,
    ParityError,
    Preprocessing,
    Progress,
    TensorSpec,
    staged_path,
)

if TYPE_CHECKING:
    from .calibration.clips import SkippedVideo
    from .exporter.architecture import DualFormerConfig
    from .exporter.dualformer import DualFormer
    from .exporter.manifest import Manifest, Weights
    from .exporter.onnx_export import OnnxOptions
    from .runtimes.compare import ComparisonReport

GENERATED_CLIPS = 1
EXPORT_EXTRA = frozenset(("torch", "onnxruntime", "onnxsim", "onnxscript", "onnx_ir"))


def export_proven(
    network: DualFormer,
    manifest: Manifest,
    options: OnnxOptions,
    proof: tuple[Iterable[Clip], float],
    progress: Progress,
) -> tuple[Artifact, ComparisonReport]:
    """Export under a temporary name and compare on the proof's clips; both files appear, or neither."""
    from .exporter.manifest import tool_versions, write_manifest
    from .exporter.onnx_export import export_onnx

    final = manifest.folder / f"{manifest.name}.fp32.onnx"
    with staged_path(manifest.path) as staged_manifest, staged_path(final) as staged:
        artifact = export_onnx(network, staged, options, parent=manifest.weights.sha256, progress=progress)
        reports = compare_files(network, {final.name: staged}, *proof, progress)
        require_parity(reports)
        artifact = replace(artifact, path=final)
        write_manifest(replace(manifest.with_artifact(artifact), tools=tool_versions()), staged_manifest)
    return artifact, reports[0]


def compare_files(
    network: DualFormer, files: dict[str, Path], clips: Iterable[Clip], tolerance: float, progress: Progress
) -> tuple[ComparisonReport, ...]:
    """Compare ONNX files, by name, with the network they were made from."""
    from .runtimes.compare import Tolerance, compare
    from .runtimes.onnx_runner import OnnxRunner
    from .runtimes.torch_runner import TorchRunner

    config = network.config
    inputs = (TensorSpec("clip", "float32", (1, *config.clip_shape)),)
    outputs = (TensorSpec("logits", "float32", (1, config.classes)),)
    with ExitStack() as runners:
        reference = runners.enter_context(TorchRunner(network, inputs, outputs))
        candidates = {name: runners.enter_context(OnnxRunner(path)) for name, path in files.items()}
        return compare(reference, candidates, clips, Tolerance(tolerance), progress)


def require_parity(reports: Iterable[ComparisonReport]) -> None:
    """Raise ParityError for the first report that is out of tolerance."""
    for report in reports:
        if not report.passed:
            raise ParityError(
                f"{report.artifact} differs from the PyTorch network: largest logit difference "
                f"{report.largest_difference:.2e} (limit {report.tolerance.logit_difference:g}), cosine "
                f"{report.cosine:.6f} (limit {report.tolerance.cosine:g}), worst on {report.worst_clip}",
                fix="install the versions in constraints.txt, or allow more with --tolerance",
            )


def open_clips(path: Path | None, preprocessing: Preprocessing, views: int, skip_unreadable: bool) -> Iterable[Clip]:
    if path is None:
        from .calibration.synthetic import moving_patterns

        return moving_patterns(GENERATED_CLIPS, preprocessing)
    from .calibration.clips import ClipSource

    return ClipSource(path, preprocessing, views=views, skip_unreadable=skip_unreadable)


def list_skipped(source: Iterable[Clip]) -> tuple[SkippedVideo, ...]:
    """The videos that were skipped in the last pass over `source`."""
    skipped: tuple[SkippedVideo, ...] = getattr(source, "skipped", ())
    return skipped


def note_clips(source: Iterable[Clip]) -> None:
    if isinstance(source, tuple):
        console.note("no --clips given: compared on a generated moving pattern")
    for skipped in list_skipped(source):
        console.note(f"skipped {skipped.reason}")


def note_selections(config: DualFormerConfig, weights: Weights) -> dict[str, tuple[str, ...] | bool]:
    """What the export's summary says about token selection, if there is any; what a user might overlook is noted."""
    from .exporter.token_grids import describe_selections, describe_uncovered

    if not config.selections:
        return {}
    uncovered = describe_uncovered(config.frames, config.selections)
    untrained = weights.are_random or weights.selector_seed is not None
    if weights.selector_seed is not None:
        console.note(f"the selectors are random (seed {weights.selector_seed}): what they keep means nothing")
    for line in uncovered:
        console.note(line)
    return {
        "selections": describe_selections(config.frames, config.selections),
        "left_out_of_keys": uncovered,
        "untrained_selector": untrained,
    }


@contextmanager
def needing_extra(command: str) -> Iterator[None]:
    """Say which `pip install` brings a library of the extra `export` that an import inside finds missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXPORT_EXTRA:
            raise
        raise MissingDependencyError(
            f"`dualexport {command}` needs {error.name}, which is not installed",
            fix='pip install "dualexport[export]"',
        ) from error
