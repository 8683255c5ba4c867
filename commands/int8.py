"""`dualexport int8`: the folded graph with its linear layers in INT8, calibrated on clips."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import DeviceName, Method, Place
from ..pipeline.calibrate import USUAL_CLIPS
from ..pipeline.clips import Clips as ClipsOf
from ..pipeline.quantize import Quantized, QuantizeOptions, quantize
from . import console
from .options import Folder, Json, SkipUnreadable, Views

if TYPE_CHECKING:
    from ..calibration.placement import Placement
    from ..calibration.sensitivity import LayerNoise

EPILOG = "Example:\n\ndualexport int8 dualformer-demo --clips calibration"


NOT_MEASURED = (
    "Whether {0} is worth it was not measured: put the FP16 and the {0} file side by side with `dualexport plan`, or "
    "measure engines of both with `dualexport bench` where they will run."
)


class Base(str, Enum):
    """The precision of the unquantized rest."""

    FP16 = "fp16"
    FP32 = "fp32"


CalibrationClips = Annotated[
    Path | None,
    typer.Option(
        metavar="SOURCE",
        help="Clips to calibrate on: video, folder, list of paths, or .npy. Left out: the last calibration.",
    ),
]
MaxClips = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="At most so many clips, evenly spread over the source.")
]
KeepFp16 = Annotated[
    list[str] | None,
    typer.Option("--keep-fp16", metavar="PATTERN", help="Leave these layers unquantized: blocks.0.*, *.fc2."),
]
Sensitivity = Annotated[
    bool, typer.Option("--sensitivity", help="Rank the layers by their share of the output's error.")
]
TargetAgreement = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Keep the fewest of the worst layers until the best class agrees with FP32 on this share of clips, "
        "a fifth of the source, held out from calibration.",
    ),
]
PlaceOption = Annotated[
    Place | None,
    typer.Option("--place", help="Layers to quantize. Default: free, what costs no kernel and no byte on any device."),
]
PlaceDevice = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Quantize the layers that pay on this device: on the GPU of this machine as measured (here), on others by "
        f"TensorRT's plans ({', '.join(name.value for name in DeviceName)}).",
    ),
]


def int8(
    folder: Folder = None,
    clips: CalibrationClips = None,
    method: Annotated[
        Method | None, typer.Option(help="How the range of an activation is chosen. Default: percentile.")
    ] = None,
    max_clips: MaxClips = USUAL_CLIPS,
    views: Views = 1,
    keep_fp16: KeepFp16 = None,
    sensitivity: Sensitivity = False,
    target_agreement: TargetAgreement = None,
    place: PlaceOption = None,
    device: PlaceDevice = None,
    base: Annotated[Base, typer.Option(help="What stays unquantized: fp16 for GPUs, fp32 for CPUs.")] = Base.FP16,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Write DIR/dualformer-MODEL.int8.onnx: linear layers in INT8 (explicit Q/DQ), everything else in FP16.

    Ranges and weights are measured on clips, and kept in DIR/calibration.json and .safetensors for the next run.
    """
    options = QuantizeOptions(method, base.value, tuple(keep_fp16 or ()), sensitivity, target_agreement, place, device)
    run_quantize(folder, clips, (views, skip_unreadable, max_clips), options, as_json=as_json)


def run_quantize(
    folder: Path | None, clips: Path | None, taken: tuple[int, bool, int], options: QuantizeOptions, *, as_json: bool
) -> None:
    """Quantize, and print what was made; `taken` are the views, whether to skip, and the most of the clips."""
    source = None if clips is None else ClipsOf(clips, *taken)
    with console.show_progress() as reporter:
        quantized = quantize(folder, source, options, progress=reporter.progress, notify=reporter.note)
    if as_json:
        console.print_json(_summarize(quantized))
    else:
        print_quantized(quantized)
        if quantized.ranking:
            _print_ranking(quantized.ranking)
        not_measured = NOT_MEASURED.format(quantized.artifact.precision.value.upper())
        for sentence in [verdict.sentence for verdict in quantized.verdicts] or [not_measured]:
            console.print_text(sentence)


def _summarize(quantized: Quantized) -> dict[str, object]:
    return {
        "file": quantized.artifact,
        "method": quantized.calibration.method,
        "clips": len(quantized.calibration.clips),
        "reused_calibration": quantized.reused,
        "kept": quantized.kept,
        "placement": quantized.placement,
        "work_shares": quantized.work_shares,
        "parity": quantized.report,
        "sensitivity": quantized.ranking,
        "skipped": quantized.skipped,
        "verdicts": quantized.verdicts,
    }


def _print_ranking(ranking: Sequence[LayerNoise]) -> None:
    rows = [(noise.layer, f"{noise.share:.1%}", f"{noise.decibels:.1f}") for noise in ranking]
    console.print_table("One layer quantized at a time", ("layer", "of the error", "dB to the error"), rows)


def print_quantized(quantized: Quantized) -> None:
    """Print a table of an INT8 or FP8 file: its size, its calibration, and how close it comes to the FP32 file."""
    artifact, report = quantized.artifact, quantized.report
    rows = [
        ("MB", f"{artifact.path.stat().st_size / 1e6:.1f}"),
        ("calibrated on", f"{len(quantized.calibration.clips)} clips, {quantized.calibration.method.value}"),
        *((f"multiply-accumulates in {name}", f"{share:.1%}") for name, share in quantized.work_shares.items()),
    ]
    if report is not None:
        rows += [
            ("compared with", f"{quantized.compared_with} on {report.clips} clips"),
            ("cosine of logits", f"{report.cosine:.6f}"),
            ("same best class", f"{report.top1_agreement:.1%}"),
        ]
    word = artifact.precision.value.upper()
    rows.append((f"layers in {word}", f"{len(quantized.placement.layers)} ({artifact.options['place']})"))
    if quantized.kept:
        rows.append(("kept", ", ".join(quantized.kept)))
    console.print_table(str(artifact.path), ("", artifact.path.name), rows)
    _print_placement(quantized.placement, word, str(artifact.options["place"]))


def _print_placement(placement: Placement, word: str, device: str) -> None:
    """Print what each group of layers saves or costs on the device, where times decided."""
    if placement.rest_ms is None or placement.placed_ms is None:
        return
    rows = [(gain.group, word if gain.chosen else "FP16", f"{gain.saved_ms:+.3f}") for gain in placement.gains]
    by = f"plans for {device}" if placement.gpu is None else f"layer times on this {placement.gpu}"
    console.print_table(f"Placed by {by}", ("layers", "chosen", f"ms that {word} saves"), rows)
    figures = (
        f"{placement.placed_ms:.2f} ms instead of {placement.rest_ms:.2f} in FP16 on {placement.gpu or device}: "
        f"{placement.rest_ms / placement.placed_ms:.2f}x as fast"
    )
    if placement.gpu is None:
        console.print_text(f"estimated {figures}. An estimate, not a measurement.")
    else:
        console.print_text(f"measured {figures}, engines of both in turns.")
