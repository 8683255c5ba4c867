"""Write generated, labelled videos: `dualexport synth` and `dualexport.synth`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.reporter import Progress, no_progress

if TYPE_CHECKING:
    from ..clips.synthetic import Dataset


def synth(
    folder: Path | str,
    clips: int = 24,
    seed: int = 0,
    *,
    progress: Progress = no_progress,
) -> Dataset:
    """Write so many .mp4 files of generated scenes to `folder`, with their list, labels.csv.

    Any twelve in a row show each of twelve actions once, which no single frame tells apart. The same seed gives the
    same videos. Raises OutputError.
    """
    from ..clips.synthetic import write_dataset

    return write_dataset(Path(folder), clips, seed, progress)
