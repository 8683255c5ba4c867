"""`dualexport onnx`: from a checkpoint to ONNX files that are proven to compute it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.choices import Graph, InputType, ModelSize, Precision
from ..core.extras import needing_extra
from ..core.reporter import Reporter
from ..core.selection import parse_selections
from ..exporter.dualformer.token_grids import list_selected_grids
from ..pipeline import parity
from . import console
from .options import MOST_BATCH, MOST_SEED, Clips, Json, LogitTolerance, SkipUnreadable, Views

EPILOG = "Example:\n\ndualexport onnx --model demo --clips videos/labels.csv"


FLOATS = (Precision.FP32, Precision.FP16)


class ModelName(str, Enum):
    """The sizes, and the small trained network that comes with dualexport."""

    N = "n"
    T = "t"
    S = "s"
    B = "b"
    DEMO = "demo"


def onnx(
    model: Annotated[
        ModelName | None,
        typer.Option(
            help="Size, follows from --checkpoint when left out; or the small trained model that comes along."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Published .pth, or .safetensors. Without it: seeded random weights.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one a line, in order; `predict` prints them.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Default: ./dualformer-MODEL")
    ] = None,
    graph: Annotated[Graph, typer.Option(help="Folded: the same function in fewer layers. Plain: as traced.")] = (
        Graph.FOLDED
    ),
    input_type: Annotated[
        InputType, typer.Option("--input", help="Normalized clips, or raw RGB frames (batch, frames, 224, 224, 3).")
    ] = InputType.FLOAT32,
    precision: Annotated[
        list[Precision] | None,
        typer.Option(help="May be repeated. Default: fp32 and fp16. Int8 needs --clips and is made from those two."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Clips an inference; fixed in the file.")] = 1,
    opset: Annotated[int, typer.Option(min=18, max=20, help="ONNX operator set; TensorRT 10.0 reads up to 20.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the random weights.")] = 0,
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
    """Write DIR/dualformer-MODEL.fp32.onnx, DIR/dualformer-MODEL.fp16.onnx and DIR/manifest.json.

    Before the files get their names, ONNX Runtime runs them against the PyTorch network on clips: a file that does
    not compute the same is not kept.
    """
    if model is None and checkpoint is None:
        raise typer.BadParameter("give --model, --checkpoint, or both")
    if model is ModelName.DEMO and checkpoint is not None:
        raise typer.BadParameter("--model demo has its own weights: leave --checkpoint out")
    if graph is Graph.PLAIN and input_type is InputType.UINT8:
        raise typer.BadParameter("the plain graph takes float32 clips: leave --graph plain or --input uint8 out")
    precisions = tuple(dict.fromkeys(precision or FLOATS))
    if Precision.INT8 in precisions and (clips is None or graph is Graph.PLAIN):
        raise typer.BadParameter("int8 is calibrated on --clips, on the folded graph", param_hint="--precision")
    if untrained_selector and stts is None:
        raise typer.BadParameter("--untrained-selector goes with --stts")
    selections = parse_selections(stts) if stts is not None else ()
    started = time.monotonic()
    with needing_extra("onnx"):
        from ..exporter import loading, onnx_export
        from ..exporter.dualformer import network as dualformer
    from ..core.manifest import Manifest, name_network, open_manifest
    from ..pipeline.clips import Clips as ClipsOf
    from ..pipeline.quantize import quantize

    with console.show_progress() as progress:
        progress("loading the weights")
        if model is ModelName.DEMO:
            network, weights, ignored = loading.load_demo(seed, selections, untrained_selector)
        else:
            size = ModelSize(model.value) if model else None
            network, weights, ignored = loading.load_network(size, checkpoint, seed, selections, untrained_selector)
        config = network.config
        fresh = Manifest(
            output or Path(name_network(model.value if model else config.size.value, selections)),
            config.size,
            config.classes,
            weights,
            config.preprocessing,
            selected=list_selected_grids(config.frames, selections),
            labels=_name_classes(labels, config.classes, weights.demo),
        )
        manifest = open_manifest(fresh)
        proof = parity.Proof(parity.open_clips(clips, config.preprocessing, views, skip_unreadable), tolerance)
        floats = FLOATS if Precision.INT8 in precisions else precisions
        variants = [
            onnx_export.OnnxOptions(graph, choice, input_type, batch, opset, with_selection) for choice in floats
        ]
        artifacts, reports = parity.export_proven(network, manifest, variants, proof, progress)
        if clips is not None and Precision.INT8 in precisions:
            videos = ClipsOf(clips, views, skip_unreadable)
            quantized = quantize(manifest.folder, videos, progress=progress.progress, notify=progress.note)
            assert quantized.report is not None  # there are clips
            artifacts, reports = (*artifacts, quantized.artifact), (*reports, quantized.report)
    if ignored:
        console.note(f"left out, inference does not need it: {', '.join(ignored)}")
    if weights.are_random:
        console.note(f"the weights are random (seed {seed}): pass --checkpoint to export a trained network")
    selection = parity.note_selections(config, weights, Reporter(note=console.note))
    parity.note_clips(proof.clips, Reporter(note=console.note))
    summary = {
        "model": config.size,
        "random_weights": weights.are_random,
        **selection,
        "parameters": dualformer.count_parameters(network),
        "gmacs_per_view": dualformer.count_macs(config) / 1e9,
        "seconds": time.monotonic() - started,
        "files": [{**asdict(artifact), "size_bytes": artifact.path.stat().st_size} for artifact in artifacts],
        "parity": reports,
        "skipped": parity.list_skipped(proof.clips),
    }
    if as_json:
        console.print_json(summary)
    else:
        _print_export(summary)


def _name_classes(path: Path | None, classes: int, demo: bool) -> tuple[str, ...]:
    from ..core.class_names import read_labels
    from ..exporter.demo_model import read_demo_labels

    if path is not None:
        return read_labels(path, classes)
    return read_demo_labels() if demo else ()


def _print_export(summary: Mapping[str, Any]) -> None:
    """What `onnx` wrote: a row a file, then the network in one line."""
    rows = [
        (
            str(file["path"]),
            file["graph"].value,
            f"{file['size_bytes'] / 1e6:.1f}",
            str(file["options"]["opset"]),
            str(file["options"]["nodes"]),
            str(report.clips),
            f"{report.largest_difference:.1e}",
            f"{report.cosine:.6f}",
        )
        for file, report in zip(summary["files"], summary["parity"], strict=True)
        if file["precision"] is not Precision.INT8
    ]
    columns = ("file", "graph", "MB", "opset", "nodes", "clips", "largest diff", "cosine")
    console.print_table("Written, and compared with the PyTorch network (FP32)", columns, rows)
    for file, report in zip(summary["files"], summary["parity"], strict=True):
        if file["precision"] is Precision.INT8:
            print(
                f"{file['path']}: {file['size_bytes'] / 1e6:.1f} MB, compared with the FP32 file on {report.clips} "
                f"clips: largest difference {report.largest_difference:.1e}, cosine {report.cosine:.6f}"
            )
    for selection in summary.get("selections", ()):
        print(f"token selection: {selection}")
    print(
        f"DualFormer-{summary['model'].value}: {summary['parameters'] / 1e6:.1f} M parameters, "
        f"{summary['gmacs_per_view']:.1f} GMACs a view; {summary['seconds']:.1f} s"
    )
