"""`dualexport synth`: generated, labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..pipeline.synth import synth as make_videos
from . import console
from .options import MOST_SEED, Json

if TYPE_CHECKING:
    from ..clips.synthetic import Dataset

EPILOG = "Example:\n\ndualexport synth --output videos --clips 12"


def synth(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the videos and labels.csv go.")],
    clips: Annotated[
        int, typer.Option(min=1, max=100_000, help="Videos; any twelve in a row show each action once.")
    ] = 24,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="The same seed gives the same videos.")] = 0,
    as_json: Json = False,
) -> None:
    """Write labelled .mp4 files of generated scenes: twelve actions that no single frame tells apart."""
    with console.show_progress() as reporter:
        dataset = make_videos(output, clips, seed, progress=reporter.progress)
    if as_json:
        console.print_json({"seed": seed, "dataset": dataset})
    else:
        _print_dataset(dataset)


def _print_dataset(dataset: Dataset) -> None:
    """Print the number of videos of each action, and where their list is."""
    rows = [(action, str(count)) for action, count in dataset.clips_by_action.items()]
    console.print_table(f"{len(dataset.videos)} videos, listed in {dataset.labels}", ("action", "videos"), rows)
