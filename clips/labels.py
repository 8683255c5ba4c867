"""Labels that lie apart from the videos: a list of `path,label` lines, put to the videos of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..core.errors import LabelError
from .source import Video, list_videos


def label_videos(videos: Sequence[Video], path: Path) -> tuple[Video, ...]:
    """`videos` with the labels of the list at `path`, by name, or by file name where that is of one entry only.

    Videos that the list leaves out keep the label they have. Raises LabelError when it labels none of them.
    """
    entries = {entry.name: entry.label for entry in list_videos(path) if entry.label is not None}
    counts = Counter(PurePosixPath(name).name for name in entries)
    by_file = {PurePosixPath(name).name: label for name, label in entries.items()}
    labelled, found = [], 0
    for video in videos:
        file = PurePosixPath(video.name).name
        label = entries.get(video.name, by_file.get(file) if counts[file] == 1 else None)
        found += label is not None
        labelled.append(replace(video, label=label if label is not None else video.label))
    if not found:
        raise LabelError(
            f"{path.name} labels none of the {len(videos)} videos",
            fix="write `path,label` lines with the videos' own names",
        )
    return tuple(labelled)
