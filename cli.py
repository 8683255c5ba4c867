"""The commands. Each composes the parts, which know nothing of each other; console.py says how results look."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__, console
from .contracts import (
    Artifact,
    Clip,
    DualExportError,
    MissingDependencyError,
    ModelSize,
    ParityError,
    Preprocessing,
    Progress,
    TensorSpec,
    staged_path,
)

if TYPE_CHECKING:
    from .exporter.dualformer import DualFormer
    from .exporter.manifest import Manifest
    from .exporter.onnx_export import OnnxOptions
    from .runtimes.compare import ComparisonReport

GENERATED_CLIPS = 1
LOGIT_TOLERANCE = 1e-3
EXPORT_EXTRA = frozenset(("torch", "onnxruntime", "onnxsim", "onnxscript", "onnx_ir"))

app = typer.Typer(
    name="dualexport",
    help="Take a DualFormer video network from a PyTorch checkpoint to a verified ONNX file.",
    epilog="Start with `dualexport onnx --model n`, then `dualexport verify`, then `dualexport predict VIDEO`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="What `dualexport onnx` wrote; found by itself when only one is here."),
]
Clips = Annotated[
    Path | None,
    typer.Option(
        metavar="SOURCE",
        help="Video, folder of videos or frame images, list of paths (.txt, .csv), or .npy/.npz clips. "
        "Without it: a generated moving pattern.",
    ),
]
Views = Annotated[int, typer.Option(min=1, help="Views of each video, evenly placed in time.")]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without videos that do not decode.")]
LogitTolerance = Annotated[float, typer.Option(min=0.0, help="Largest logit difference that passes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected error is two lines on stderr and exit code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="dualexport")
    except DualExportError as error:
        if "--debug" in given:
            raise
        console.print_error(str(error), error.fix)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[  # noqa: ARG001  # main() reads it, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show an error's traceback; may stand anywhere.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(epilog="Example: dualexport onnx --model b --checkpoint dualformer_b.pth --clips videos/")
def onnx(
    model: Annotated[ModelSize | None, typer.Option(help="Size; follows from --checkpoint when left out.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Published .pth, or .safetensors. Without it: seeded random weights.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: ./dualformer-SIZE")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips an inference; fixed in the file.")] = 1,
    opset: Annotated[int, typer.Option(min=18, max=20, help="ONNX operator set; TensorRT 10.0 reads up to 20.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    clips: Clips = None,
    views: Views = 1,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = LOGIT_TOLERANCE,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-SIZE.fp32.onnx and DIR/manifest.json.

    Before the file gets its name, ONNX Runtime runs it against the PyTorch network on clips: a file that does not
    compute the same is not kept.
    """
    if model is None and checkpoint is None:
        raise typer.BadParameter("give --model, --checkpoint, or both")
    started = time.monotonic()
    with _needing_extra("onnx"):
        from .exporter import dualformer, loading, onnx_export
    from .exporter.manifest import Manifest, open_manifest

    with console.show_progress() as progress:
        progress("loading the weights")
        network, weights, ignored = loading.load_network(model, checkpoint, seed)
        config = network.config
        folder = output or Path(f"dualformer-{config.size.value}")
        manifest = open_manifest(Manifest(folder, config.size, config.classes, weights, config.preprocessing))
        source = _open_clips(clips, config.preprocessing, views, skip_unreadable)
        options = onnx_export.OnnxOptions(batch, opset)
        artifact, report = _export_proven(network, manifest, options, (source, tolerance), progress)
    if ignored:
        console.note(f"left out, inference does not need it: {', '.join(ignored)}")
    if weights.are_random:
        console.note(f"the weights are random (seed {seed}): pass --checkpoint to export a trained network")
    _note_clips(source)
    summary = {
        "path": str(artifact.path),
        "size_bytes": artifact.path.stat().st_size,
        **artifact.options,
        "parameters": dualformer.count_parameters(network),
        "gmacs_per_view": dualformer.count_macs(config) / 1e9,
        "seconds": time.monotonic() - started,
    }
    if as_json:
        console.print_json({**summary, "random_weights": weights.are_random, "parity": report, **_skipped(source)})
    else:
        console.print_export(summary, report)


@app.command(epilog="Example: dualexport verify dualformer-b --clips videos/")
def verify(
    folder: Folder = None,
    clips: Clips = None,
    views: Views = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = LOGIT_TOLERANCE,
    as_json: Json = False,
) -> None:
    """Run the PyTorch network and every artifact in DIR on clips, and compare their logits.

    Exits with 1 when an artifact is out of tolerance, naming its worst clip.
    """
    with _needing_extra("verify"):
        from .exporter.loading import restore_network
    from .exporter.manifest import check_artifact, find_manifest

    manifest = find_manifest(folder)
    source = _open_clips(clips, manifest.preprocessing, views, skip_unreadable)
    with console.show_progress() as progress:
        progress("loading the weights")
        for artifact in manifest.artifacts:
            check_artifact(artifact)
        network = restore_network(manifest, checkpoint)
        files = {artifact.path.name: artifact.path for artifact in manifest.artifacts}
        reports = _compare(network, files, source, tolerance, progress)
    _note_clips(source)
    if as_json:
        console.print_json({"passed": all(report.passed for report in reports), "reports": reports, **_skipped(source)})
    else:
        console.print_comparison(reports)
    _require_parity(reports)


@app.command(epilog="Example: dualexport predict dualformer-b video.mp4 --labels kinetics400_labels.txt")
def predict(
    paths: Annotated[
        list[Path], typer.Argument(metavar="[DIR] VIDEO", help="What was exported, and what to classify.")
    ],
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names, one a line, in order.")] = None,
    views: Views = 4,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Name the five most probable classes of a video: ONNX Runtime, probabilities averaged over views."""
    if len(paths) > 2:
        raise typer.BadParameter("give a folder and a video, or a video alone", param_hint="[DIR] VIDEO")
    with _needing_extra("predict"):
        from .runtimes.onnx_runner import OnnxRunner
    from .exporter.manifest import check_artifact, find_manifest
    from .runtimes.classify import predict_videos, read_labels

    manifest = find_manifest(paths[0] if len(paths) == 2 else None)
    artifact = manifest.artifact_of("onnx")
    check_artifact(artifact)
    names = read_labels(labels, manifest.classes)
    source = _open_clips(paths[-1], manifest.preprocessing, views, skip_unreadable)
    with console.show_progress() as progress, OnnxRunner(artifact.path) as runner:
        progress("classifying")
        predictions = tuple(predict_videos(runner, source, names))
    _note_clips(source)
    if as_json:
        console.print_json({"artifact": artifact.path.name, "predictions": predictions, **_skipped(source)})
    else:
        console.print_predictions(predictions)


def _export_proven(
    network: DualFormer,
    manifest: Manifest,
    options: OnnxOptions,
    proof: tuple[Iterable[Clip], float],
    progress: Progress,
) -> tuple[Artifact, ComparisonReport]:
    """Export under a temporary name and compare on the proof's clips; both files appear, or neither."""
    from .exporter.manifest import tool_versions, write_manifest
    from .exporter.onnx_export import export_onnx

    final = manifest.folder / f"dualformer-{manifest.size.value}.fp32.onnx"
    with staged_path(manifest.path) as staged_manifest, staged_path(final) as staged:
        artifact = export_onnx(network, staged, options, parent=manifest.weights.sha256, progress=progress)
        reports = _compare(network, {final.name: staged}, *proof, progress)
        _require_parity(reports)
        artifact = replace(artifact, path=final)
        write_manifest(replace(manifest.with_artifact(artifact), tools=tool_versions()), staged_manifest)
    return artifact, reports[0]


def _compare(
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


def _require_parity(reports: Iterable[ComparisonReport]) -> None:
    """Raise ParityError for the first report that is out of tolerance."""
    for report in reports:
        if not report.passed:
            raise ParityError(
                f"{report.artifact} differs from the PyTorch network: largest logit difference "
                f"{report.largest_difference:.2e} (limit {report.tolerance.logit_difference:g}), cosine "
                f"{report.cosine:.6f} (limit {report.tolerance.cosine:g}), worst on {report.worst_clip}",
                fix="install the versions in constraints.txt, or allow more with --tolerance",
            )


def _open_clips(path: Path | None, preprocessing: Preprocessing, views: int, skip_unreadable: bool) -> Iterable[Clip]:
    if path is None:
        from .calibration.synthetic import moving_patterns

        return moving_patterns(GENERATED_CLIPS, preprocessing)
    from .calibration.clips import ClipSource

    return ClipSource(path, preprocessing, views=views, skip_unreadable=skip_unreadable)


def _skipped(source: Iterable[Clip]) -> dict[str, object]:
    return {"skipped": getattr(source, "skipped", ())}


def _note_clips(source: Iterable[Clip]) -> None:
    if isinstance(source, tuple):
        console.note("no --clips given: compared on a generated moving pattern")
    for skipped in getattr(source, "skipped", ()):
        console.note(f"skipped {skipped.reason}")


@contextmanager
def _needing_extra(command: str) -> Iterator[None]:
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
