"""`dualexport distill`: a checkpoint that costs less, from a checkpoint and videos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..pipeline.clips import Clips
from ..pipeline.distill import MOST_BATCH, MOST_STEPS, Distilled, DistillOptions
from ..pipeline.distill import distill as distill_network
from ..pipeline.load import load, load_demo
from . import console
from .options import MOST_SEED, Json, SkipUnreadable, Views

EPILOG = "Example:\n\ndualexport distill --model demo --stts T0:0.5 --clips calibration --budget 20s"
DEFAULTS = DistillOptions()
DURATION = re.compile(r"(\d{1,6})(s|m|h)", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """`90s`, `30m` or `2h` in seconds."""
    match = DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is no duration: write for example 30m, 90s or 2h", param_hint="--budget")
    return float(int(match[1]) * SECONDS[match[2]])


def distill(
    clips: Annotated[
        Path,
        typer.Option(metavar="SOURCE", help="Videos to learn from: a folder, a list of them, or .npy clips."),
    ],
    model: Annotated[
        str | None, typer.Option(metavar="demo", help="The small trained model that comes along, as the teacher.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The teacher: a published .pth, or .safetensors.")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one a line, in order; kept in the checkpoint.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE|DIR", help="Checkpoint to write, or folder of several."),
    ] = None,
    stts: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTIONS", help="Tokens to go on with, T0:0.5,S2:0.74; repeated: one file each."),
    ] = None,
    frames: Annotated[
        list[int] | None, typer.Option(min=2, max=256, help="Frames of a clip; repeated: one file each.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Every how many frames. Default: clips span as long as before.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Length of the training.")] = DEFAULTS.steps,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Clips a step.")] = DEFAULTS.batch,
    budget: Annotated[
        str | None, typer.Option(metavar="30m", help="End after so long, if the steps are not done before.")
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train selectors alone.")] = False,
    rate: Annotated[float, typer.Option(min=1e-8, max=1.0, help="Learning rate of the network.")] = DEFAULTS.rate,
    temperature: Annotated[
        float, typer.Option(min=0.1, max=100.0, help="Softens the teacher's answers.")
    ] = DEFAULTS.temperature,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="The same seed trains in the same way.")] = 0,
    views: Views = 1,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint of a network that costs less and answers as --checkpoint does, learned from videos.

    No labels are needed; a list of `path,label` lines as --clips has them learned besides. Interrupted, it keeps the
    best weights so far, and the same command goes on from its last state. `torchrun --nproc-per-node N -m dualexport
    distill ...` shares the work.
    """
    if (model is None) == (checkpoint is None) or model not in (None, "demo"):
        raise typer.BadParameter("give the teacher: --checkpoint FILE, or --model demo")
    options = DistillOptions(
        selections=tuple(stts or ()),
        frames=tuple(frames or ()),
        stride=stride,
        steps=steps,
        batch=batch,
        budget_s=None if budget is None else parse_duration(budget),
        freeze=freeze,
        rate=rate,
        temperature=temperature,
        seed=seed,
    )
    with console.show_progress() as reporter:
        reporter("loading the weights")
        network = load_demo(labels=labels) if checkpoint is None else load(checkpoint, labels=labels)
        source = Clips(clips, views, skip_unreadable)
        distilled = distill_network(network, source, output, options, progress=reporter.progress, notify=reporter.note)
    if distilled.is_first:
        console.show(distilled, _print_students, as_json=as_json)


def _print_students(distilled: Distilled) -> None:
    """Print a row a student."""
    rows = [
        (
            str(student.path),
            student.selections or "all tokens",
            f"{student.frames} x {student.stride}",
            f"{student.agreement:.1%} of {student.held_out}",
            str(student.steps),
            f"{student.seconds / 60:.1f}",
        )
        for student in distilled.students
    ]
    columns = ("file", "selects", "frames x stride", "agrees with the teacher", "steps", "minutes")
    console.print_table("Distilled; agreement on held-out clips", columns, rows)
    console.print_text(f"next: dualexport onnx --checkpoint {distilled.students[0].path}")
