"""Clip sources: what counts as one, what comes out of it, and what is said of what cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import moving_patterns, render_pattern
from dualexport.core.errors import ClipError
from dualexport.core.types import Clip


def read(path: Path, **options: Any) -> list[Clip]:
    return list(ClipSource(path, NANO_CLIP, **options))


@pytest.fixture
def folder(tmp_path: Path, video: Path) -> Path:
    """Two good videos at two depths, one broken between them, and files that are none."""
    (tmp_path / "b" / "deep").mkdir(parents=True)
    shutil.copy(video, tmp_path / "b" / "deep" / "second.mp4")
    shutil.copy(video, tmp_path / "a.mp4")
    (tmp_path / "b" / "broken.mp4").write_bytes(b"nothing")
    (tmp_path / "notes.md").write_text("no video")
    (tmp_path / ".hidden.mp4").write_bytes(b"nothing")
    return tmp_path


def test_views_of_a_video_are_sampled_over_its_length(video: Path) -> None:
    clips = read(video, views=3)
    assert [(clip.name, clip.view) for clip in clips] == [("pattern.mp4", view) for view in range(3)]
    assert all(clip.data.shape == (16, 224, 224, 3) and clip.data.dtype == np.uint8 for clip in clips)
    assert [clip.frame_indices[0] for clip in clips] == [4, 14, 24]
    assert all(np.diff(clip.frame_indices).tolist() == [2] * 15 for clip in clips)


def test_a_short_video_wraps_round(tmp_path: Path) -> None:
    np.save(tmp_path / "unused.npy", np.zeros(1))
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), np.full((240, 240, 3), number, np.uint8))
    (tmp_path / "unused.npy").unlink()
    (clip,) = read(tmp_path)
    assert clip.frame_indices[:5] == (0, 2, 1, 0, 2)


def test_a_folder_is_read_in_a_fixed_order_at_any_depth(folder: Path) -> None:
    source = ClipSource(folder, NANO_CLIP, skip_unreadable=True)
    for _ in range(2):  # the same source can be iterated again
        assert [clip.name for clip in source] == ["a.mp4", "b/deep/second.mp4"]
        assert [skipped.name for skipped in source.skipped] == ["b/broken.mp4"]


def test_an_unreadable_video_is_an_error_that_names_it(folder: Path) -> None:
    with pytest.raises(ClipError, match=r"broken\.mp4 cannot be decoded"):
        read(folder)


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(ClipError, match="none of its 1 videos could be read"):
        read(tmp_path, skip_unreadable=True)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no video in this folder"):
        ClipSource(tmp_path, NANO_CLIP)


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no such file or folder"):
        ClipSource(tmp_path / "gone", NANO_CLIP)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "# two videos\na.mp4 7\nb/deep/second.mp4 9\n"),
        ("list.csv", "path,label\na.mp4,7\nb/deep/second.mp4, 9\n"),
    ],
)
def test_a_list_gives_paths_and_labels(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    assert [(clip.name, clip.label) for clip in read(folder / name)] == [("a.mp4", "7"), ("b/deep/second.mp4", "9")]


def test_a_list_may_hold_paths_with_spaces_and_no_labels(folder: Path) -> None:
    shutil.copy(folder / "a.mp4", folder / "a b.mp4")
    (folder / "list.txt").write_text("a b.mp4\na.mp4\n")
    assert [(clip.name, clip.label) for clip in read(folder / "list.txt")] == [("a b.mp4", None), ("a.mp4", None)]


def test_a_listed_video_that_is_gone_is_named(folder: Path) -> None:
    (folder / "list.txt").write_text("gone.mp4 1\n")
    with pytest.raises(ClipError, match=r"gone\.mp4: no such file"):
        read(folder / "list.txt")


def test_frame_images_are_a_video_in_natural_order(tmp_path: Path) -> None:
    for number in range(20):
        colour = np.full((240, 320, 3), (0, 0, 10 * number), np.uint8)  # OpenCV writes blue, green, red
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), colour)
    (clip,) = read(tmp_path)
    assert clip.name == tmp_path.name
    expected = [10 * (2 * step % 20) for step in range(16)]
    assert clip.data[:, 0, 0, 0].tolist() == expected  # red comes first
    assert not clip.data[..., 1:].any()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_stored_frames_are_clips(tmp_path: Path, suffix: str) -> None:
    stored = np.stack([render_pattern(seed, 16, 224, 224) for seed in (0, 1)])
    path = tmp_path / f"clips.{suffix}"
    np.save(path, stored) if suffix == "npy" else np.savez(path, first=stored[0], second=stored[1])
    clips = read(path)
    assert [clip.name for clip in clips] == [f"clips.{suffix}[0]", f"clips.{suffix}[1]"]
    assert all(np.array_equal(clip.data, frames) for clip, frames in zip(clips, stored, strict=True))


def test_stored_network_input_is_taken_as_it_is(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).standard_normal((2, 3, 16, 224, 224)).astype(np.float32)
    np.save(tmp_path / "clips.npy", stored)
    clips = read(tmp_path / "clips.npy")
    assert np.array_equal(clips[1].network_input("float32"), stored[1])
    with pytest.raises(ClipError, match="holds float32 values, the network takes uint8"):
        clips[1].network_input("uint8")


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.array([{}], dtype=object)], ids=["shape", "pickle"])
def test_arrays_that_are_no_clips_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "clips.npy", array, allow_pickle=True)
    with pytest.raises(ClipError, match=r"clips\.npy"):
        read(tmp_path / "clips.npy")


def test_only_one_video_is_in_memory_at_a_time(folder: Path) -> None:
    clips = iter(ClipSource(folder, NANO_CLIP, skip_unreadable=True))
    first = next(clips)
    assert first.data.nbytes == 16 * 224 * 224 * 3
    assert first.data.base is None  # a view would hold more than the clip


def test_generated_patterns_move_and_are_those_of_their_seed() -> None:
    first, second = moving_patterns(2, NANO_CLIP)
    again = moving_patterns(1, NANO_CLIP)[0]
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, second.data)
    assert (first.data[0] != first.data[-1]).any()
