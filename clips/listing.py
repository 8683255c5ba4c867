"""Videos of a source by name: those of a folder, of a list with or without labels, or of a Kinetics annotation file."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import ClipError, ClipNotFoundError, printable
from ..core.reading import FileKind, is_there

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".ogv", ".ts", ".webm", ".wmv"),
    )
)
IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".webp"))
ARRAY_SUFFIXES = frozenset((".npy", ".npz"))
LIST_SUFFIXES = frozenset((".csv", ".txt"))
LIST = FileKind(
    "a readable list of videos",
    ClipError,
    "write one path a line in UTF-8, with a label after it or not",
    missing=ClipNotFoundError,
    missing_fix="give a video, a folder of videos, or a list of them",
)
HEADERS = (["path"], ["path", "label"], ["path label"], ["path\tlabel"])
KINETICS = ("youtube_id", "time_start", "time_end")
MAX_LABEL = 1024


@dataclass(frozen=True, slots=True)
class Video:
    """One entry of a source: a video file, a folder of frame images, or a file of arrays.

    `name` is printable, and one entry's only. `listed` is the list and line that it stands in.
    """

    path: Path
    name: str
    label: str | None = None
    listed: str = ""

    @property
    def where(self) -> str:
        """The name, behind the line that has it."""
        return f"{self.listed}: {self.name}" if self.listed else self.name


def list_videos(path: Path) -> tuple[Video, ...]:
    """The entries of a source in a fixed order; raises ClipError when there is none."""
    is_found = is_there(path)
    if is_found and path.is_dir():
        return _list_folder(path)
    if path.suffix.lower() in LIST_SUFFIXES:
        return read_list(path)
    if not is_found:
        raise ClipNotFoundError(
            f"{path}: no such file or folder", fix="give a video, a folder of videos, or a list of them"
        )
    return (Video(path, printable(path.name)),)


def read_list(path: Path, kind: FileKind = LIST) -> tuple[Video, ...]:
    """The entries of a list: `path`, `path label`, tab-separated or `path,label` lines, or Kinetics' own annotations.

    Relative paths start at the list's folder. Raises the kind's error, with the line where there is one.
    """
    text = kind.read_text(path)
    rows = _split_csv if path.suffix.lower() == ".csv" else _split_text
    videos: list[Video] = []
    try:
        columns: list[str] = []
        for number, row in rows(text, path.parent):
            where = f"{printable(path.name)}, line {number}"
            lowered = [cell.lower() for cell in row]
            if not videos and not columns and (lowered in HEADERS or set(KINETICS) <= set(lowered)):
                columns = lowered
                continue
            videos.append(_parse_row(row, columns, path, where, kind))
    except csv.Error as error:
        raise kind.refuse(path, f"after line {len(videos)}: {error}") from error
    if not videos:
        raise kind.error(f"{path}: no video in this list", fix=kind.fix)
    return _name_apart(videos)


def _list_folder(root: Path) -> tuple[Video, ...]:
    """Videos and stored arrays at any depth; a folder with images and no video is itself a video.

    Hidden folders and files are passed over. A folder that must not be looked into is an entry that cannot be read.
    """
    videos = []
    unreadable: list[Path] = []
    for place, folders, names in os.walk(root, onerror=lambda error: unreadable.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(place)
        files = [folder / name for name in sorted(names) if not name.startswith(".")]
        found = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES | ARRAY_SUFFIXES]
        if not found and any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
            found = [folder]
        videos += [_entry(item, root) for item in found]
    videos += [_entry(folder, root) for folder in unreadable]
    if not videos:
        raise ClipError(
            f"{root}: no video in this folder",
            fix=f"give a folder with {', '.join(sorted(VIDEO_SUFFIXES))} files, frame images or .npy clips",
        )
    return _name_apart(sorted(videos, key=lambda video: (video.path.parent, video.path)))


def _entry(item: Path, root: Path) -> Video:
    return Video(item, printable(item.relative_to(root).as_posix() if item != root else root.resolve().name))


def _split_csv(text: str, _: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells) and not cells[0].startswith("#"):
            yield reader.line_num, cells


def _split_text(text: str, folder: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if "\t" in stripped:
            yield number, [cell.strip() for cell in stripped.split("\t", 1)]
        elif " " not in stripped or is_there(folder / stripped):  # a path may hold spaces
            yield number, [stripped]
        else:
            yield number, stripped.rsplit(maxsplit=1) if stripped.lower() != "path label" else [stripped]


def _parse_row(row: Sequence[str], columns: Sequence[str], path: Path, where: str, kind: FileKind) -> Video:
    if set(KINETICS) <= set(columns):
        return _parse_kinetics(dict(zip(columns, row, strict=False)), path, where, kind)
    name, label = row[0], row[1] if len(row) > 1 and row[1] else None
    if not name or "\0" in name:
        raise kind.error(f"{where}: no path", fix=kind.fix)
    if label is not None and len(label) > MAX_LABEL:
        raise kind.error(f"{where}: a label of {len(label)} characters", fix="write `path,label` lines")
    return Video(path.parent / name, printable(name), printable(label) if label else None, where)


def _parse_kinetics(row: dict[str, str], path: Path, where: str, kind: FileKind) -> Video:
    """A line of Kinetics' train.csv or val.csv: the clip's file is called after its id and seconds, as downloaders do.

    It lies beside the list, or in a folder of its label's name.
    """
    times = [row.get(name, "") for name in KINETICS[1:]]
    if not row.get("youtube_id") or not all(time.isascii() and time.isdigit() and len(time) <= 6 for time in times):
        raise kind.error(f"{where}: needs {', '.join(KINETICS)}", fix="use the annotation file as it was published")
    stem = "_".join((row["youtube_id"], *(f"{int(time):06d}" for time in times)))
    label = row.get("label") or None
    folders = ("", label or "", (label or "").replace(" ", "_"))
    candidates = [
        Path(folder, f"{file}{suffix}")
        for folder in dict.fromkeys(folders)
        for file in (stem, row["youtube_id"])
        for suffix in (".mp4", ".mkv", ".webm", ".avi")
    ]
    found = next((one for one in candidates if is_there(path.parent / one)), candidates[0])
    return Video(path.parent / found, printable(found.as_posix()), printable(label) if label else None, where)


def _name_apart(videos: Sequence[Video]) -> tuple[Video, ...]:
    """The same videos; one that is listed a second time is called `a.mp4 (2)`, so that each has its own result."""
    seen = Counter[str]()
    named = []
    for video in videos:
        seen[video.name] += 1
        count = seen[video.name]
        named.append(video if count == 1 else replace(video, name=f"{video.name} ({count})"))
    return tuple(named)
