"""Seeking finds the very frames that decoding from the start finds, and broken files say what is wrong."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from conftest import NANO_CLIP
from dualexport.clips import video as decoding
from dualexport.clips.preprocess import find_seen, resize_and_crop
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.errors import ClipError

SIZE = 64


def decode_all(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [decoding.to_upright(frame, SIZE) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")])
@pytest.mark.parametrize("wanted", [(0,), (5, 6, 30), (59,), (11, 12, 13, 47, 48), tuple(range(60))])
def test_chosen_frames_are_those_of_a_full_decode(
    tmp_path: Path, suffix: str, codec: str, wanted: tuple[int, ...]
) -> None:
    path = tmp_path / f"pattern{suffix}"
    write_video(path, render_pattern(2, 60, 96, 128), codec=codec, keyframe_interval=12)
    index = decoding.count_frames(path)
    assert index.count == 60
    frames, everything = decoding.read_frames(path, index, wanted, SIZE), decode_all(path)
    assert sorted(frames) == sorted(wanted)
    for number in wanted:
        assert np.array_equal(frames[number], everything[number]), number


def test_frames_before_a_later_keyframe_are_not_decoded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int | None] = []
    position = decoding._position

    def count(index: decoding.FrameIndex, frame: VideoFrame) -> int:
        decoded.append(frame.pts)
        return position(index, frame)

    monkeypatch.setattr(decoding, "_position", count)
    index = decoding.count_frames(video)
    decoding.read_frames(video, index, [50], SIZE)
    assert len(decoded) == 3  # frames 48 (a keyframe), 49 and 50


def test_real_recordings_agree_with_a_full_decode(recordings: Path) -> None:
    for name in ("arm_wrestling.mp4", "test.avi", "people.mp4", "flipping_a_pancake.mkv", "rotated_90.mov"):
        path = recordings / name
        index, everything = decoding.count_frames(path), decode_all(path)
        assert index.count == len(everything)
        wanted = sorted({0, 1, index.count // 2, index.count - 1})
        for number, frame in decoding.read_frames(path, index, wanted, SIZE).items():
            assert np.array_equal(frame, everything[number]), (name, number)


def test_a_display_rotation_is_honoured(recordings: Path) -> None:
    with av.open(str(recordings / "rotated_90.mov")) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width, frame.rotation) == (320, 568, -90)
    stored = frame.to_ndarray(format="rgb24")
    top_left_when_upright = stored[-1, 0]  # a quarter turn clockwise brings the lower left corner to the top left
    assert np.array_equal(np.rot90(stored, -1)[0, 0], top_left_when_upright)
    index = decoding.count_frames(recordings / "rotated_90.mov")
    upright = decoding.read_frames(recordings / "rotated_90.mov", index, [0], SIZE)[0]
    expected = resize_and_crop(np.ascontiguousarray(np.rot90(stored, -1)), SIZE)
    assert np.array_equal(upright, expected)


def test_a_truncated_video_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.avi"
    write_video(path, render_pattern(1, 60, 120, 160), codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ClipError, match=r"cut\.avi cannot be decoded"):
        decoding.count_frames(path)


def test_an_mkv_that_was_cut_off_is_a_shorter_video(tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    write_video(path, render_pattern(1, 60, 120, 160))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    index = decoding.count_frames(path)
    assert 0 < index.count < 60
    assert len(decoding.read_frames(path, index, range(index.count), SIZE)) == index.count


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_what_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"notes\.mp4 cannot be decoded") as error:
        decoding.count_frames(path)
    assert "--skip-unreadable" in error.value.fix


@pytest.mark.parametrize("lost", [1, 5])
def test_a_transport_stream_that_lost_packets_is_read(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "x.ts"
    write_video(path, render_pattern(1, 60, 120, 160), keyframe_interval=12)
    packets = [path.read_bytes()[start : start + 188] for start in range(0, path.stat().st_size, 188)]
    middle = len(packets) // 2
    path.write_bytes(b"".join((*packets[:middle], *packets[middle + lost :])))
    index = decoding.count_frames(path)
    assert 50 <= index.count <= 60
    assert len(decoding.read_frames(path, index, range(0, index.count, 7), 64)) == len(range(0, index.count, 7))


def test_a_transport_stream_of_two_sizes_is_read(tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate(((120, 160), (96, 128))):
        path = tmp_path / f"{number}.ts"
        write_video(path, render_pattern(1, 30, *size), keyframe_interval=10)
        parts.append(path.read_bytes())
    (tmp_path / "x.ts").write_bytes(b"".join(parts))
    clip = next(iter(ClipSource(tmp_path / "x.ts", NANO_CLIP)))
    assert clip.data.shape == (16, 224, 224, 3)


@pytest.mark.parametrize("size", [224, 64])
@pytest.mark.parametrize(
    ("height", "width"), [(1080, 1920), (720, 1280), (480, 640), (1920, 1088), (360, 640), (578, 1024), (340, 256)]
)
def test_what_the_crop_does_not_see_is_left_out_and_no_pixel_changes(height: int, width: int, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height * 3 // 2, width), np.uint8)
    for colorspace, color_range in ((2, 0), (1, 1), (5, 2)):
        frame = av.VideoFrame.from_ndarray(noise, format="yuv420p")
        frame.colorspace, frame.color_range = colorspace, color_range
        expected = resize_and_crop(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), size)
        np.testing.assert_array_equal(decoding.to_upright(frame, size), expected)
    rows, columns = find_seen(height, width, size)
    assert (rows < height, columns < width) == (height > 1.3 * width, width > 1.3 * height)
