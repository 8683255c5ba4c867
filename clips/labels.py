"""Labels that lie apart from the videos: a list of `path,label` lines, put to the videos of a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import LabelError, LabelNotFoundError
from ..core.reading import FileKind
from .listing import Video, read_list

LABEL_LIST = FileKind(
    "a list of labels",
    LabelError,
    "write `path,label` lines with the videos' own names",
    missing=LabelNotFoundError,
    missing_fix="name a list of `path,label` lines",
)


def label_videos(videos: Sequence[Video], path: Path) -> tuple[Video, ...]:
    """`videos` with the labels of the list at `path`: by name, else by file name, else by that without its suffix.

    The latter two count where they are of one entry only. Videos that the list leaves out keep the label they have.
    Raises LabelError when it labels none of them.
    """
    entries = [entry for entry in read_list(path, LABEL_LIST) if entry.label is not None]
    tables = [_tabulate(entries, key) for key in (_name_of, _file_of, _stem_of)]
    labelled, found = [], 0
    for video in videos:
        keys = (_name_of(video), _file_of(video), _stem_of(video))
        labels = (table.get(key) for table, key in zip(tables, keys, strict=True))
        label = next((label for label in labels if label is not None), None)
        found += label is not None
        labelled.append(replace(video, label=label if label is not None else video.label))
    if not found:
        raise LabelError(
            f"{path.name} labels none of the {len(videos)} videos",
            fix="write `path,label` lines with the videos' own names",
        )
    return tuple(labelled)


def _tabulate(entries: Sequence[Video], key: Callable[[Video], str]) -> dict[str, str | None]:
    """Labels by a key of the entries that is of one label only."""
    labels: dict[str, set[str | None]] = defaultdict(set)
    for entry in entries:
        labels[key(entry)].add(entry.label)
    return {name: next(iter(found)) for name, found in labels.items() if len(found) == 1}


def _name_of(video: Video) -> str:
    return video.name


def _file_of(video: Video) -> str:
    return video.path.name


def _stem_of(video: Video) -> str:
    return video.path.stem
