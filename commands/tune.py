"""`dualexport tune`: the best network for a device and a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.choices import DeviceName, Place, Precision, Runtime
from . import console
from .options import MOST_BATCH, Json, Labels, Views

EPILOG = "Example:\n\ndualexport tune --clips videos/labels.csv --max-drop 9 --seconds 0.5 -o best"
MOST_MS = 1e6


def tune(
    clips: Annotated[
        Path, typer.Option(metavar="SOURCE", help="Labelled videos to judge by: a list of `path,label` lines.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the winner; its work/ keeps all the rest.")
    ],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="May be repeated; the first, in FP32, is the reference. Default: the demo model."),
    ] = None,
    stts: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTIONS", help="Also with these token selections: T0:0.5; may be repeated."),
    ] = None,
    frames: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Also with clips of fewer frames; may be repeated.")
    ] = None,
    distill: Annotated[
        list[float] | None,
        typer.Option(
            min=0.01, max=0.99, metavar="RATIO", help="Also made to keep this share of the frames; may be repeated."
        ),
    ] = None,
    train: Annotated[
        Path | None, typer.Option(metavar="SOURCE", help="Other videos, that --distill learns from; no labels needed.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="SOURCE", help="Other videos, to calibrate 8 bits on; without them: none.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="here|DEVICE",
            help="Measure on this machine, or estimate for a device by TensorRT's plans: "
            f"{', '.join(name.value for name in DeviceName)}.",
        ),
    ] = "here",
    runtime: Annotated[
        Runtime, typer.Option(help="With --device here: onnx, or tensorrt, which builds engines.")
    ] = Runtime.ONNX,
    latency: Annotated[
        float | None, typer.Option(min=0.0, max=MOST_MS, metavar="MS", help="Milliseconds that an inference may take.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=-100.0, max=100.0, metavar="POINTS", help="Accuracy that may be lost against the reference."),
    ] = None,
    precision: Annotated[
        list[Precision] | None, typer.Option(help="May be repeated. Default: all that the device has.")
    ] = None,
    place: Annotated[
        list[Place] | None, typer.Option(help="Layers in 8 bits; may be repeated. Default: free, device and all.")
    ] = None,
    target_agreement: Annotated[
        list[float] | None,
        typer.Option(
            min=0.0, max=1.0, metavar="SHARE", help="Also with the worst layers kept out of 8 bits; may be repeated."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Clips an inference.")] = 1,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade", help="Also two networks as one, the dear one for unsure clips: its latency is a mean"
        ),
    ] = False,
    labels: Labels = None,
    views: Views = 1,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="To measure each candidate for, with --device here.")
    ] = 2.0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Spread the videos over N processes; with --ray, over N workers."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="Spread the videos over a Ray cluster; auto: the one here."),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a report, .html, .md or .json; may be given several times."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose the network to ship: the most accurate that is fast enough, and loses no more than it may.

    Makes every candidate (checkpoints, selections, precisions, placements of 8 bits), estimates or measures its
    latency, and compares those that are fast enough on labelled videos, no longer than each can still win. Without
    --latency the fastest one wins that is accurate enough. The same command goes on where it was interrupted, and
    reuses everything for another budget.

    Exits with 1 when nothing holds the budget, naming the nearest candidates and by what they miss it.
    """
    from ..core.errors import LimitError
    from ..pipeline.clips import Clips as ClipsOf
    from ..pipeline.tune.options import TuneOptions
    from ..pipeline.tune.tune import tune as tune_networks
    from ..report.tune_page import outline_search, tell_misses

    options = TuneOptions(
        device=device,
        latency_ms=latency,
        max_drop=max_drop,
        checkpoints=tuple(checkpoint or ()),
        selections=tuple(stts or ()),
        frames=tuple(frames or ()),
        distill=tuple(distill or ()),
        train=None if train is None else ClipsOf(train),
        precisions=tuple(precision or ()),
        places=tuple(place or Place),
        target_agreements=tuple(target_agreement or ()),
        calibration=None if calibration is None else ClipsOf(calibration),
        labels=labels,
        batch=batch,
        cascade=cascade,
        runtime=runtime,
        seconds=seconds,
        workers=workers,
        ray=ray,
        reports=tuple(report or ()),
    )
    with console.show_progress() as reporter:
        tuned = tune_networks(ClipsOf(clips, views), output, options, progress=reporter.progress, notify=reporter.note)
    if as_json:
        console.print_json(tuned.document)
    else:
        console.print_parts(outline_search(tuned.document))
    if tuned.winner is None:
        raise LimitError(
            f"nothing holds the budget: {tell_misses(tuned.document)}", fix="allow more, or add candidates"
        )
