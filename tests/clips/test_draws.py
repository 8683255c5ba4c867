"""Clips to train on come in an order that follows from the seed and the step, whoever reads them."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from dualexport.clips.draws import ClipDraws, draw_indices, mirror, split_clips
from dualexport.clips.source import ClipSource
from dualexport.core.errors import ClipError
from dualexport.core.types import Clip, Preprocessing

SMALL = Preprocessing(frames=2, size=8)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Twelve clips in one file, each of one value."""
    values = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1, 1)
    np.save(tmp_path / "clips.npy", np.broadcast_to(values, (12, 2, 8, 8, 3)))
    return tmp_path / "clips.npy"


def read_values(draws: ClipDraws, step: int, batches: int) -> list[list[int]]:
    return [[int(clip.data.flat[0]) for clip in batch] for batch in islice(draws.read_from(step), batches)]


def test_every_clip_comes_once_in_a_pass() -> None:
    drawn = [draw_indices(10, 3, step, (7,)) for step in range(6)]
    for begin in (0, 3):
        seen = np.concatenate(drawn[begin : begin + 3]).tolist()
        assert len(set(seen)) == len(seen) == 9
    assert drawn[0].tolist() != drawn[3].tolist()


def test_batches_are_the_same_wherever_reading_begins(stored: Path) -> None:
    training, held_out = split_clips(ClipSource(stored, SMALL))
    assert (len(training), len(held_out)) == (11, 1)
    draws = ClipDraws(training, 4, seed=3)
    whole = read_values(draws, 0, 5)
    assert read_values(draws, 2, 3) == whole[2:]
    assert read_values(ClipDraws(training, 4, seed=4), 0, 5) != whole


def test_the_parts_of_two_processes_are_the_batch(stored: Path) -> None:
    training, _ = split_clips(ClipSource(stored, SMALL))
    first, second = (ClipDraws(training, 4, 0, part) for part in (slice(0, 2), slice(2, 4)))
    assert first.draw(5) + second.draw(5) == ClipDraws(training, 4, 0).draw(5)


def test_videos_are_held_out_whole(stored: Path) -> None:
    for number in range(20):
        np.save(stored.parent / f"{number:02}.npy", np.zeros((2, 2, 8, 8, 3), np.uint8))
    stored.unlink()
    training, held_out = split_clips(ClipSource(stored.parent, SMALL))
    names = [{video.name for video, _ in part.places} for part in (training, held_out)]
    assert (len(names[0]), len(names[1])) == (18, 2)
    assert not names[0] & names[1]
    assert len(list(held_out)) == 4


def test_in_the_place_of_an_unreadable_video_comes_the_next(stored: Path) -> None:
    (stored.parent / "broken.mp4").write_text("no video")
    shutil.copy(stored, stored.parent / "more.npy")
    training, _ = split_clips(ClipSource(stored.parent, SMALL, skip_unreadable=True))
    assert len(read_values(ClipDraws(training, 12, 0), 0, 1)[0]) == 12
    assert list(training.skipped) == ["broken.mp4"]
    strict, _ = split_clips(ClipSource(stored.parent, SMALL))
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        read_values(ClipDraws(strict, 12, 0), 0, 1)


def test_fewer_clips_than_a_batch_are_refused(stored: Path) -> None:
    training, _ = split_clips(ClipSource(stored, SMALL))
    with pytest.raises(ClipError, match="11 clips to train on, a batch takes 12") as error:
        ClipDraws(training, 12, 0)
    assert "--batch" in error.value.fix


def test_a_clip_in_a_mirror_has_no_label() -> None:
    frames = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    seen = mirror(Clip("a", 0, frames, SMALL, label="moving left"))
    assert seen.label is None
    assert np.array_equal(seen.data, frames[:, :, ::-1])
    stored = frames.transpose(3, 0, 1, 2).astype(np.float32)
    assert np.array_equal(mirror(Clip("a", 0, stored, SMALL)).data, stored[..., ::-1])
