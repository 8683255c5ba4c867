"""`dualexport int8`: the folded graph with its linear layers in INT8, calibrated on clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import Method, Precision
from ..core.extras import needing_extra
from ..core.reporter import Reporter
from ..pipeline import parity
from ..pipeline.latency import read_verdicts
from ..pipeline.quantize import USUAL_CLIPS, QuantizeOptions, quantize_network
from ..pipeline.sensitivity import find_fewest_kept, rank_sensitivity
from . import console
from .options import Folder, Json, SkipUnreadable, Views

if TYPE_CHECKING:
    from ..calibration.sensitivity import LayerNoise
    from ..pipeline.quantize import Quantized

EPILOG = "Example:\n\ndualexport int8 dualformer-demo --clips calibration"


NOT_MEASURED = (
    "Whether INT8 is worth it was not measured: put the FP16 and the INT8 file side by side with `dualexport plan`, or "
    "measure engines of both with `dualexport bench` where they will run."
)
HELD_OUT = 5  # each so many-th video is kept from calibration when a target is to be reached on unseen clips


class Base(str, Enum):
    """What the unquantized rest computes in."""

    FP16 = "fp16"
    FP32 = "fp32"


def int8(
    folder: Folder = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Clips to calibrate on: video, folder, list of paths, or .npy. Left out: the last calibration.",
        ),
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="How the range of an activation is chosen. Default: percentile.")
    ] = None,
    max_clips: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="At most so many clips, evenly spread over the source.")
    ] = USUAL_CLIPS,
    views: Views = 1,
    keep_fp16: Annotated[
        list[str] | None,
        typer.Option("--keep-fp16", metavar="PATTERN", help="Leave these layers unquantized: blocks.0.*, *.fc2."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Rank the layers by their share of the output's error.")
    ] = False,
    target_agreement: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Keep the fewest of the worst layers until the best class agrees with FP32 on this share of clips, "
            "a fifth of the source, held out from calibration.",
        ),
    ] = None,
    base: Annotated[Base, typer.Option(help="What stays unquantized: fp16 for GPUs, fp32 for CPUs.")] = Base.FP16,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-MODEL.int8.onnx: linear layers in INT8 (explicit Q/DQ), everything else in FP16.

    Ranges and weights are measured on clips, and kept in DIR/calibration.json and .safetensors for the next run.
    """
    if max_clips < views:
        raise typer.BadParameter(f"{max_clips} clips are fewer than the {views} views of one video")
    if clips is None and (sensitivity or target_agreement is not None):
        raise typer.BadParameter("--sensitivity and --target-agreement measure on clips: give --clips")
    with needing_extra("int8"):
        import onnxruntime  # noqa: F401  # calibration runs the FP32 graph
    from ..clips.source import ClipSource
    from ..core.manifest import find_manifest

    manifest = find_manifest(folder)
    source = None
    if clips is not None:
        source = ClipSource(
            clips, manifest.preprocessing, views=views, skip_unreadable=skip_unreadable, max_clips=max_clips
        )
    held_out = source
    if source is not None and target_agreement is not None:
        source, held_out = source.split(HELD_OUT)
        if not held_out.videos:
            raise typer.BadParameter(f"--target-agreement holds each {HELD_OUT}th video out: give more videos")
    options = QuantizeOptions(method, Precision(base.value), tuple(keep_fp16 or ()))
    ranking: tuple[LayerNoise, ...] = ()
    with console.show_progress() as progress:
        quantized = quantize_network(manifest, source, options, progress)
        if source is not None and (sensitivity or target_agreement is not None):
            ranking = rank_sensitivity(manifest, quantized.calibration, source, progress)
        if held_out is not None and target_agreement is not None:
            worst = find_fewest_kept(manifest, quantized.calibration, ranking, held_out, target_agreement, progress)
            options = replace(options, keep=(*options.keep, *worst))
            quantized = (
                quantize_network(find_manifest(manifest.folder), source, options, progress) if worst else quantized
            )
    skipped = parity.list_skipped(source) if source is not None else ()
    for video in skipped:
        console.note(f"skipped {video.reason}")
    if quantized.reused:
        console.note(f"used the calibration in {manifest.folder}, of the same graph")
    verdicts = read_verdicts(find_manifest(manifest.folder), (quantized.artifact.sha256,), Reporter(note=console.note))
    if as_json:
        rest = {"sensitivity": ranking, "skipped": skipped, "verdicts": verdicts}
        console.print_json({**_summarize(quantized), **rest})
    else:
        _print_quantized(quantized)
        if ranking:
            _print_ranking(ranking)
        print("\n".join(verdict.sentence for verdict in verdicts) or NOT_MEASURED)


def _summarize(quantized: Quantized) -> dict[str, object]:
    return {
        "file": quantized.artifact,
        "method": quantized.calibration.method,
        "clips": len(quantized.calibration.clips),
        "reused_calibration": quantized.reused,
        "kept": quantized.kept,
        "work_shares": quantized.work_shares,
        "parity": quantized.report,
    }


def _print_ranking(ranking: Sequence[LayerNoise]) -> None:
    rows = [(noise.layer, f"{noise.share:.1%}", f"{noise.decibels:.1f}") for noise in ranking]
    console.print_table("One layer quantized at a time", ("layer", "of the error", "dB to the error"), rows)


def _print_quantized(quantized: Quantized) -> None:
    artifact, report = quantized.artifact, quantized.report
    rows = [
        ("MB", f"{artifact.path.stat().st_size / 1e6:.1f}"),
        ("calibrated on", f"{len(quantized.calibration.clips)} clips, {quantized.calibration.method.value}"),
        *((f"multiply-accumulates in {name}", f"{share:.1%}") for name, share in quantized.work_shares.items()),
    ]
    if report is not None:
        rows.append((f"cosine of logits to FP32, {report.clips} clips", f"{report.cosine:.6f}"))
        rows.append((f"same best class as FP32, {report.clips} clips", f"{report.top1_agreement:.1%}"))
    if quantized.kept:
        rows.append(("kept", ", ".join(quantized.kept)))
    console.print_table(str(artifact.path), ("", artifact.path.name), rows)
