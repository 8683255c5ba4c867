"""The clips that a verb works on: those of a source that the user named, or generated ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.reporter import Reporter
from ..core.types import Clip, Preprocessing

if TYPE_CHECKING:
    from ..clips.source import ClipSource, SkippedVideo


@dataclass(frozen=True, slots=True)
class Clips:
    """Clips of a video, a folder of videos or frame images, a list of those (.txt, .csv), or stored arrays.

    Of each video `views` clips are taken, evenly placed in time; of many videos so many, evenly spread, that there are
    at most `max_clips` clips. With `skip_unreadable` a video that does not decode is left out instead of an error.
    `labels` is a list of `path,label` lines, for where the source has none.
    """

    source: Path | str
    views: int = 1
    skip_unreadable: bool = False
    max_clips: int | None = None
    labels: Path | str | None = None

    def open(self, preprocessing: Preprocessing, most: int | None = None) -> ClipSource:
        """The clips as a network takes them, at most `most` where `max_clips` says nothing.

        At least one whole video is taken. Raises ClipError for a source that holds no video.
        """
        from ..clips.labels import label_videos
        from ..clips.source import ClipSource

        limit = most if self.max_clips is None else self.max_clips
        source = ClipSource(
            Path(self.source),
            preprocessing,
            views=self.views,
            skip_unreadable=self.skip_unreadable,
            max_clips=None if limit is None else max(limit, self.views),
        )
        return source if self.labels is None else source.of(label_videos(source.videos, Path(self.labels)))


def generate_clips(count: int, preprocessing: Preprocessing) -> tuple[Clip, ...]:
    """So many clips of moving patterns, for where no source was named."""
    from ..clips.synthetic import moving_patterns

    return moving_patterns(count, preprocessing)


def list_skipped(source: Iterable[Clip]) -> tuple[SkippedVideo, ...]:
    """The videos that were skipped in the last pass over `source`."""
    skipped: tuple[SkippedVideo, ...] = getattr(source, "skipped", ())
    return skipped


def note_skipped(source: Iterable[Clip], reporter: Reporter) -> None:
    """Note the videos that were skipped in the last pass over `source`, and why."""
    for skipped in list_skipped(source):
        reporter.note(f"skipped {skipped.reason}")
