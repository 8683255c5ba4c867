"""The commands. Each composes the parts, which know nothing of each other; console.py says how results look."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from . import __version__, console, steps
from .contracts import DualExportError, Graph, InputType, ModelSize, Precision, staged_path
from .exporter.selection import parse_selections
from .exporter.tensorrt_support import TensorRTRelease
from .runtimes.devices import ASSUMPTIONS, DeviceName

app = typer.Typer(
    name="dualexport",
    help="Take a DualFormer video network from a PyTorch checkpoint to a verified ONNX file.",
    epilog="Start with `dualexport onnx --model n`, then `dualexport verify`, then `dualexport predict VIDEO`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class FloatPrecision(str, Enum):
    """The precisions that need no calibration."""

    FP32 = "fp32"
    FP16 = "fp16"


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
LogitTolerance = Annotated[
    float | None,
    typer.Option(min=0.0, help="Largest logit difference to pass. Default: 1e-3 in fp32, 0.1 in fp16."),
]
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
    graph: Annotated[Graph, typer.Option(help="Folded: the same function in fewer layers. Plain: as traced.")] = (
        Graph.FOLDED
    ),
    input_type: Annotated[
        InputType, typer.Option("--input", help="Normalized clips, or raw RGB frames (batch, frames, 224, 224, 3).")
    ] = InputType.FLOAT32,
    precision: Annotated[
        list[FloatPrecision] | None, typer.Option(help="May be given twice. Default: a file in each.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips an inference; fixed in the file.")] = 1,
    opset: Annotated[int, typer.Option(min=18, max=20, help="ONNX operator set; TensorRT 10.0 reads up to 20.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    stts: Annotated[
        str | None,
        typer.Option(metavar="SELECTIONS", help="Go on with a part of the tokens, for example T0:0.5,S2:0.74."),
    ] = None,
    with_selection: Annotated[
        bool, typer.Option("--with-selection", help="Second output kept_frames: which token frames were kept.")
    ] = False,
    untrained_selector: Annotated[
        bool, typer.Option("--untrained-selector", help="Random selectors for a checkpoint that has none.")
    ] = False,
    clips: Clips = None,
    views: Views = 1,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = None,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-SIZE.fp32.onnx, DIR/dualformer-SIZE.fp16.onnx and DIR/manifest.json.

    Before the files get their names, ONNX Runtime runs them against the PyTorch network on clips: a file that does
    not compute the same is not kept.
    """
    if model is None and checkpoint is None:
        raise typer.BadParameter("give --model, --checkpoint, or both")
    if graph is Graph.PLAIN and input_type is InputType.UINT8:
        raise typer.BadParameter("the plain graph takes float32 clips: leave --graph plain or --input uint8 out")
    if untrained_selector and stts is None:
        raise typer.BadParameter("--untrained-selector goes with --stts")
    selections = parse_selections(stts) if stts is not None else ()
    started = time.monotonic()
    with steps.needing_extra("onnx"):
        from .exporter import dualformer, loading, onnx_export
    from .exporter.manifest import Manifest, name_network, open_manifest

    with console.show_progress() as progress:
        progress("loading the weights")
        network, weights, ignored = loading.load_network(model, checkpoint, seed, selections, untrained_selector)
        config = network.config
        fresh = Manifest(
            output or Path(name_network(config.size, selections)),
            config.size,
            config.classes,
            weights,
            config.preprocessing,
            selections=selections,
        )
        manifest = open_manifest(fresh)
        proof = steps.Proof(steps.open_clips(clips, config.preprocessing, views, skip_unreadable), tolerance)
        precisions = [Precision(choice.value) for choice in dict.fromkeys(precision or FloatPrecision)]
        variants = [
            onnx_export.OnnxOptions(graph, choice, input_type, batch, opset, with_selection) for choice in precisions
        ]
        artifacts, reports = steps.export_proven(network, manifest, variants, proof, progress)
    if ignored:
        console.note(f"left out, inference does not need it: {', '.join(ignored)}")
    if weights.are_random:
        console.note(f"the weights are random (seed {seed}): pass --checkpoint to export a trained network")
    selection = steps.note_selections(config, weights)
    steps.note_clips(proof.clips)
    summary = {
        "model": config.size,
        "random_weights": weights.are_random,
        **selection,
        "parameters": dualformer.count_parameters(network),
        "gmacs_per_view": dualformer.count_macs(config) / 1e9,
        "seconds": time.monotonic() - started,
        "files": [{**asdict(artifact), "size_bytes": artifact.path.stat().st_size} for artifact in artifacts],
        "parity": reports,
        "skipped": steps.list_skipped(proof.clips),
    }
    if as_json:
        console.print_json(summary)
    else:
        console.print_export(summary)


@app.command(epilog="Example: dualexport verify dualformer-b --clips videos/")
def verify(
    folder: Folder = None,
    clips: Clips = None,
    views: Views = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = None,
    as_json: Json = False,
) -> None:
    """Run the PyTorch network and every artifact in DIR on clips, and compare their logits.

    Exits with 1 when an artifact is out of tolerance, naming its worst clip.
    """
    with steps.needing_extra("verify"):
        from .exporter.loading import restore_network
    from .exporter.manifest import check_artifact, find_manifest

    manifest = find_manifest(folder)
    source = steps.open_clips(clips, manifest.preprocessing, views, skip_unreadable)
    with console.show_progress() as progress:
        progress("loading the weights")
        for artifact in manifest.artifacts:
            check_artifact(artifact)
        network = restore_network(manifest, checkpoint)
        artifacts = {artifact.path.name: artifact for artifact in manifest.artifacts}
        reports = steps.compare_artifacts(network, artifacts, steps.Proof(source, tolerance), progress)
    steps.note_clips(source)
    if as_json:
        console.print_json(
            {
                "passed": all(report.passed for report in reports),
                "reports": reports,
                "skipped": steps.list_skipped(source),
            }
        )
    else:
        console.print_comparison(reports)
    steps.require_parity(reports)


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
    with steps.needing_extra("predict"):
        from .runtimes.onnx_runner import OnnxRunner
    from .exporter.manifest import check_artifact, find_manifest
    from .runtimes.classify import predict_videos, read_labels

    manifest = find_manifest(paths[0] if len(paths) == 2 else None)
    artifact = manifest.artifact_of("onnx", Precision.FP32)
    check_artifact(artifact)
    names = read_labels(labels, manifest.classes)
    source = steps.open_clips(paths[-1], manifest.preprocessing, views, skip_unreadable)
    with console.show_progress() as progress, OnnxRunner(artifact.path) as runner:
        progress("classifying")
        predictions = tuple(predict_videos(runner, source, names))
    steps.note_clips(source)
    if as_json:
        console.print_json(
            {"artifact": artifact.path.name, "predictions": predictions, "skipped": steps.list_skipped(source)}
        )
    else:
        console.print_predictions(predictions)


@app.command(
    epilog="Example: dualexport plan dualformer-b/dualformer-b.fp16.onnx --device agx-orin. "
    f"What --device assumes: {ASSUMPTIONS}"
)
def plan(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL [OTHER]", help="ONNX file; two are put side by side.")],
    layers: Annotated[bool, typer.Option("--layers", help="List all layers, not the ten heaviest.")] = False,
    device: Annotated[
        DeviceName | None,
        typer.Option(help="Add a latency estimate for this device."),
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plans as JSON, every layer.")] = None,
    as_json: Json = False,
) -> None:
    """Show what TensorRT makes of a model: layers, fused attentions, bytes moved, precision of the work.

    Compiles with the TensorRT that is installed, as strongly typed; needs no GPU.
    """
    if len(models) > 2:
        raise typer.BadParameter("give one model, or two to compare", param_hint="MODEL")
    from .runtimes.devices import DEVICES, estimate
    from .runtimes.planning import plan_onnx

    with console.show_progress() as progress:
        plans = [plan_onnx(model, progress=progress) for model in models]
    estimates = [estimate(made, DEVICES[device]) for made in plans] if device else []
    document = {
        "plans": [
            {**made.document(), **({"estimate": estimated.document()} if estimated else {})}
            for made, estimated in zip_longest(plans, estimates)
        ]
    }
    if save:
        with staged_path(save) as staged:
            staged.write_text(console.to_json(document), encoding="utf-8")
    if as_json:
        console.print_json(document)
    else:
        console.print_plans(plans, estimates, all_layers=layers)


@app.command(epilog="Example: dualexport lint dualformer-b/dualformer-b.fp16.onnx --tensorrt 10.3")
def lint(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file.")],
    tensorrt: Annotated[
        list[TensorRTRelease] | None,
        typer.Option(help="Check for this release only; may be repeated. Default: all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that TensorRT can read a model, without TensorRT: operators, types, shapes, attributes, opset.

    Exits with 1 when it finds something, naming the node and what to do.
    """
    from .exporter.lint import lint_onnx

    releases = tuple(tensorrt or TensorRTRelease)
    findings = lint_onnx(model, releases)
    if as_json:
        console.print_json({"model": model.name, "releases": releases, "findings": findings})
    else:
        console.print_findings(model.name, releases, findings)
    if findings:
        raise typer.Exit(1)


@app.command(epilog="Example: dualexport synth --output videos --clips 24 --seed 1, then --clips videos/labels.csv")
def synth(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the videos and labels.csv go.")],
    clips: Annotated[int, typer.Option(min=1, help="Videos; any twelve in a row show each action once.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same videos.")] = 0,
    as_json: Json = False,
) -> None:
    """Write labelled .mp4 files of generated scenes: twelve actions that no single frame tells apart."""
    from .calibration.synthetic import write_dataset

    with console.show_progress() as progress:
        dataset = write_dataset(output, clips, seed, progress)
    if as_json:
        console.print_json({"seed": seed, "dataset": dataset})
    else:
        console.print_dataset(dataset)
