"""Batches of clips in an order that follows from a seed and the step alone, decoded in threads ahead of the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np

from ..core.errors import ClipError
from ..core.types import Array, Clip
from .listing import Video
from .source import ClipSource, SkippedVideo

THREADS = 2
AHEAD = 2  # batches
HELD_OUT_EVERY = 10  # videos
MOST_HELD_OUT = 200  # videos


def draw_indices(count: int, batch: int, step: int, seeds: Sequence[int]) -> Array:
    """The batch of `step`, of `count` things of which each comes once in every pass; what is left of a pass is not."""
    epoch, offset = divmod(step * batch, count // batch * batch)
    order = np.random.default_rng((*seeds, epoch)).permutation(count)
    return order[offset : offset + batch]


@dataclass(frozen=True, slots=True)
class Draw:
    """A clip that was drawn: its place among the clips, and whether it is seen in a mirror."""

    place: int
    mirrored: bool


@dataclass(slots=True)
class ListedClips:
    """Some clips of a source, in order; one that is to be skipped is listed in `skipped` while they are read."""

    source: ClipSource
    places: Sequence[tuple[Video, int]]
    skipped: dict[str, SkippedVideo] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Clip]:
        for place in range(len(self.places)):
            clip = self.read(place)
            if clip is not None:
                yield clip

    def read(self, place: int) -> Clip | None:
        """One of the clips; None for one that is to be skipped. Raises ClipError."""
        video, number = self.places[place]
        try:
            return self.source.read_clip(video, number)
        except ClipError as error:
            if not self.source.skip_unreadable:
                raise
            self.skipped[video.name] = SkippedVideo(video.name, str(error))
            return None

    def part(self, chosen: slice) -> ListedClips:
        """Some of them, in the same order."""
        return ListedClips(self.source, self.places[chosen], self.skipped)


def split_clips(source: ClipSource) -> tuple[ListedClips, ListedClips]:
    """The clips of all videos but each tenth, or fewer than that of many, and those of the others.

    Of a single file of arrays the clips themselves are split. Raises ClipError for arrays that cannot be read.
    """
    places = source.list_clips()
    of_video = {video: number for number, video in enumerate(source.videos)}
    groups = [of_video[video] for video, _ in places] if len(of_video) > 1 else list(range(len(places)))
    count = len(set(groups))
    every = min(max(HELD_OUT_EVERY, -(-count // MOST_HELD_OUT)), max(count, 1))
    held_out = [group % every == every - 1 for group in groups]
    training = [place for place, held in zip(places, held_out, strict=True) if not held]
    return ListedClips(source, training), ListedClips(source, list(compress(places, held_out)))


class ClipDraws:
    """Clips drawn by chance, half of them mirrored: without a label then, which may say left or right.

    Of each batch it reads `part`, one of several processes' own. Raises ClipError for fewer clips than a batch.
    """

    def __init__(self, clips: ListedClips, batch: int, seed: int, part: slice = slice(None)) -> None:
        if len(clips) < batch:
            raise ClipError(
                f"{clips.source.path}: {len(clips)} clips to train on, a batch takes {batch}",
                fix="give more videos, more --views of each, or a smaller --batch",
            )
        self._clips, self._batch, self._seed, self._part = clips, batch, seed, part

    @property
    def steps_a_pass(self) -> int:
        """Steps in which every clip is drawn once."""
        return len(self._clips) // self._batch

    def draw(self, step: int) -> list[Draw]:
        """The part of the batch of `step`."""
        places = draw_indices(len(self._clips), self._batch, step, (self._seed,))
        mirrored = np.random.default_rng((self._seed, 1, step)).random(self._batch) < 0.5
        return [Draw(int(place), bool(one)) for place, one in zip(places, mirrored, strict=True)][self._part]

    def read_from(self, step: int) -> Iterator[list[Clip]]:
        """Read the batches from `step` on, without end."""
        pending: deque[list[Future[Clip]]] = deque()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="decode") as threads:
            try:
                while True:
                    while len(pending) < AHEAD:
                        pending.append([threads.submit(self._read, draw) for draw in self.draw(step + len(pending))])
                    yield [clip.result() for clip in pending.popleft()]
                    step += 1
            finally:
                threads.shutdown(cancel_futures=True)

    def _read(self, draw: Draw) -> Clip:
        """Read a clip; in the place of one that is to be skipped comes the next."""
        for offset in range(len(self._clips)):
            clip = self._clips.read((draw.place + offset) % len(self._clips))
            if clip is not None:
                return mirror(clip) if draw.mirrored else clip
        raise self._clips.source.nothing_read()


def mirror(clip: Clip) -> Clip:
    """The clip with left and right exchanged, without its label."""
    flipped = clip.data[..., ::-1, :] if clip.data.dtype == np.uint8 else clip.data[..., ::-1]
    return replace(clip, data=np.ascontiguousarray(flipped), label=None)
