"""`dualexport onnx`: from a checkpoint to ONNX files that are proven to compute it."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.choices import Graph, InputType, Precision
from ..core.types import Artifact
from ..pipeline.clips import Clips as ClipsOf
from ..pipeline.export import Exported, export
from ..pipeline.export_options import FLOATS, ExportOptions
from ..pipeline.load import Network, load, load_demo
from . import console
from .int8 import print_quantized
from .options import MOST_SEED, Clips, Json, LogitTolerance, SkipUnreadable, Views, parse_batches

EPILOG = "Example:\n\ndualexport onnx --model demo --clips videos/labels.csv"


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
        typer.Option(
            help="May be repeated. Default: fp32 and fp16. Int8 and fp8 need --clips and are made from those two."
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            parser=parse_batches,
            metavar="N|N-M",
            help="Clips an inference: a number, or a range of which any is taken.",
        ),
    ] = 1,
    frames: Annotated[
        int | None, typer.Option(min=2, max=256, help="Frames of a clip. Default: those that it was trained on.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Every how many frames of a video. Default: clips span as long as trained."),
    ] = None,
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
    proof_clips: Annotated[
        int, typer.Option(min=1, max=1000, help="Clips to compare the files on, evenly spread over --clips.")
    ] = 8,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = None,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-MODEL.fp32.onnx, DIR/dualformer-MODEL.fp16.onnx and DIR/manifest.json.

    Before the files get their names, ONNX Runtime runs them against the PyTorch network on clips: a file that does
    not compute the same is not kept.
    """
    if model is ModelName.DEMO and checkpoint is not None:
        raise typer.BadParameter("--model demo has its own weights: leave --checkpoint out")
    started = time.monotonic()
    options = ExportOptions(
        tuple(precision or FLOATS), graph, input_type, batch, opset, with_selection, tolerance, proof_clips
    )
    with console.show_progress() as reporter:
        reporter("loading the weights")
        chosen: dict[str, Any] = {
            "selections": stts,
            "labels": labels,
            "seed": seed,
            "untrained_selector": untrained_selector,
        }
        if model is ModelName.DEMO:
            network = load_demo(**chosen)
        else:
            network = load(checkpoint, size=model.value if model else None, **chosen)
        network = network.with_clips(frames, stride)
        source = ClipsOf(clips, views, skip_unreadable) if clips is not None else None
        exported = export(network, output, options, source, progress=reporter.progress, notify=reporter.note)
    seconds = time.monotonic() - started
    if as_json:
        console.print_json(_summarize(network, exported, seconds))
    else:
        _print_export(network, exported, seconds)


def _summarize(network: Network, exported: Exported, seconds: float) -> dict[str, object]:
    int8 = () if exported.quantized is None else (exported.quantized.report,)
    selections = {
        "selections": network.selected,
        "left_out_of_keys": network.uncovered,
        "untrained_selector": network.weights.are_random or network.weights.selector_seed is not None,
    }
    return {
        "model": network.size,
        "random_weights": network.weights.are_random,
        **(selections if network.selected else {}),
        "parameters": network.parameters,
        "gmacs_per_view": network.macs / 1e9,
        "seconds": seconds,
        "files": [{**asdict(file), "size_bytes": file.path.stat().st_size} for file in exported.artifacts],
        "parity": [*exported.reports, *int8],
        "skipped": exported.skipped,
    }


def _print_export(network: Network, exported: Exported, seconds: float) -> None:
    """Print a row for each file, then the network in one line."""
    rows = [
        (*_describe(file), str(report.clips), f"{report.largest_difference:.1e}", f"{report.cosine:.6f}")
        for file, report in zip(exported.artifacts, exported.reports, strict=False)  # INT8 has its own table
    ]
    columns = ("file", "graph", "MB", "opset", "nodes", "clips", "largest diff", "cosine")
    console.print_table("Written, and compared with the PyTorch network (FP32)", columns, rows)
    if exported.quantized is not None:
        print_quantized(exported.quantized)
    for selection in network.selected:
        console.print_text(f"token selection: {selection}")
    console.print_text(
        f"DualFormer-{network.size.value}: {network.parameters / 1e6:.1f} M parameters, "
        f"{network.macs / 1e9:.1f} GMACs a view; {seconds:.1f} s"
    )


def _describe(file: Artifact) -> tuple[str, ...]:
    megabytes = f"{file.path.stat().st_size / 1e6:.1f}"
    return str(file.path), file.graph.value, megabytes, str(file.options["opset"]), str(file.options["nodes"])
