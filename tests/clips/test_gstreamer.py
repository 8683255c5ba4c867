"""Real GStreamer pipelines: the frames that FFmpeg gives, from files, RTSP cameras and a user's own pipeline."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from dualexport.clips import camera, gstreamer
from dualexport.clips.addresses import Source, parse_sources
from dualexport.clips.camera import Frames, StreamOptions, Window
from dualexport.clips.ffmpeg_frames import FfmpegFrames
from dualexport.clips.gstreamer import DESKTOP, JETSON, SOFTWARE, VideoFacts, build_pipeline, is_chosen, list_elements
from dualexport.clips.gstreamer_frames import GStreamerFrames
from dualexport.clips.live import Ended, LiveWindows
from dualexport.clips.pacing import Pace, Paced
from dualexport.clips.preprocess import Frame
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.choices import Decoder
from dualexport.core.errors import MissingDependencyError, StreamError
from dualexport.core.types import Preprocessing
from support.rtsp import rtsp_cameras

CLIP = Preprocessing(frames=8, stride=2, size=64)
HD = VideoFacts("mov,mp4,m4a", "h264", 1920, 1080, gstreamer.CSI_RATE)
needs_gstreamer = pytest.mark.skipif(not list_elements() >= SOFTWARE, reason=f"needs GStreamer: {gstreamer.APT}")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "RETRY_SECONDS", 0.2)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds, in which a camera may break off and come back."""
    path = tmp_path_factory.mktemp("camera") / "long.mp4"
    write_video(path, render_pattern(3, 500, 96, 128), keyframe_interval=5)
    return path


@pytest.fixture(scope="module")
def brightening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gradient that gets brighter by 6 with each of 25 frames."""
    path = tmp_path_factory.mktemp("video") / "brightening.mp4"
    gradient = np.add.outer(np.linspace(0, 40, 96), np.linspace(0, 60, 128))[..., None].repeat(3, axis=2)
    write_video(path, ((gradient + 6 * number).astype(np.uint8) for number in range(25)))
    return path


def read(source: object, pace: Pace) -> tuple[list[Paced[Frame]], list[Paced[Frame]]]:
    """The frames that GStreamer gives, and those that FFmpeg does."""
    (parsed,) = parse_sources([str(source)])
    return list(GStreamerFrames(parsed, 64, pace, 20.0)), list(FfmpegFrames(parsed, 64, pace, 20.0))


def difference(one: Paced[Frame], other: Paced[Frame]) -> float:
    """The mean over pixels and colours, of 255; another scaler's is a unit or two, another crop's tens."""
    return float(np.abs(one.picture.astype(int) - other.picture).mean())


@pytest.mark.slow
@needs_gstreamer
@pytest.mark.parametrize("pace", [Pace(2), Pace(1), Pace(2, 50.0)])
def test_a_file_has_the_frames_that_ffmpeg_gives(brightening: Path, pace: Pace) -> None:
    found, expected = read(brightening, pace)
    assert [one.number for one in found[: len(expected)]] == [one.number for one in expected]
    assert len(found) - len(expected) in (0, 1)  # at a pace, the last one is shown to its end
    for one, other in zip(found, expected, strict=False):
        assert one.seconds == pytest.approx(other.seconds, abs=1e-3)
        assert difference(one, other) < 3  # the frame before and the one after are 6 away


@pytest.mark.slow
@needs_gstreamer
def test_a_name_is_a_file_whatever_it_says_in_a_pipeline(video: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" ! fakesink \\ c=d.mp4'
    odd.write_bytes(video.read_bytes())
    found, expected = read(odd, Pace(2))
    assert len(found) == len(expected)


@pytest.mark.slow
@needs_gstreamer
def test_real_recordings_are_cropped_and_turned_as_published(recordings: Path) -> None:
    for name in ("arm_wrestling.mp4", "rotated_90.mov"):  # pixels that are shown wider than high; a turned display
        found, expected = read(recordings / name, Pace(2))
        assert difference(found[1], expected[1]) < 12


@pytest.mark.slow
@needs_gstreamer
def test_clips_of_a_file_are_of_the_frames_that_ffmpeg_gives(brightening: Path) -> None:
    published = list(ClipSource(brightening, CLIP, views=3))
    shown = list(ClipSource(brightening, CLIP, views=3).shown_by(Decoder.GSTREAMER))
    for clip, other in zip(published, shown, strict=True):
        np.testing.assert_array_equal(clip.data, other.data)
        assert clip.as_shown is clip
        assert other.frame_indices == clip.frame_indices
        frames = zip(clip.data.astype(int), other.as_shown.data, strict=True)
        assert all(np.abs(one - seen).mean() < 3 for one, seen in frames)  # the frame before or after is 6 away


@needs_gstreamer
def test_colours_are_those_of_ffmpeg(tmp_path: Path) -> None:
    for colour in ((200, 200, 200), (40, 120, 220), (220, 90, 30)):
        path = tmp_path / "plain.mp4"
        write_video(path, [np.full((96, 128, 3), colour, np.uint8)] * 3)
        found, expected = read(path, Pace())
        assert np.abs(found[0].picture.astype(int) - expected[0].picture).max() <= 1  # videoconvert's own are 2 away


@needs_gstreamer
def test_windows_of_a_file_end_where_those_of_ffmpeg_do_and_no_process_stays(video: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mp4"
    write_video(short, render_pattern(2, 9, 96, 128))
    with open_windows(parse_sources([str(video), str(short)]), every=10) as windows:
        ends = {(window.camera, window.end) for window in flatten(windows)}
    assert ends == {(str(video), end) for end in (15, 25, 35, 45, 55)} | {(str(short), 9)}
    with open_windows(parse_sources([str(video)]), every=10) as windows:
        next(iter(windows))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [child for child in children if "gst-launch" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.slow
@needs_gstreamer
def test_what_gstreamer_cannot_read_is_an_error_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with (
        pytest.raises(StreamError, match=r"text.mp4"),
        open_windows(parse_sources([str(tmp_path / "text.mp4")])) as windows,
    ):
        list(windows)
    (wrong,) = parse_sources([], ["videotestsrc ! nosuchelement"])
    with pytest.raises(OSError, match="nosuchelement"):
        list(GStreamerFrames(wrong, 64, Pace(), 20.0))


@pytest.mark.slow
@needs_gstreamer
def test_a_pipeline_of_ones_own_is_a_live_source_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    (source,) = parse_sources(
        [], ["videotestsrc num-buffers=41 ! video/x-raw,format=YUY2,width=320,height=240 ! appsink"]
    )
    assert source.is_live
    frames = list(GStreamerFrames(source, 64, Pace(2), 20.0))
    assert [one.number for one in frames] == list(range(0, 41, 2))
    assert {one.picture.shape for one in frames} == {(64, 64, 3)}
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_gstreamer
def test_a_source_may_change_its_resolution(tmp_path: Path) -> None:
    path, parts = tmp_path / "both.ts", []
    for height, width in ((96, 128), (144, 160)):
        write_video(tmp_path / "part.mkv", render_pattern(1, 20, height, width), keyframe_interval=5)
        convert = "filesrc location={} ! matroskademux ! h264parse config-interval=-1 ! mpegtsmux ! fdsink"
        command = ["gst-launch-1.0", "-q", *convert.format(tmp_path / "part.mkv").split()]
        parts.append(subprocess.run(command, check=True, capture_output=True).stdout)
    path.write_bytes(b"".join(parts))
    for frames in read(path, Pace(1)):
        assert len(frames) in range(38, 42)
        assert {one.picture.shape for one in frames} == {(64, 64, 3)}


@needs_gstreamer
@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("reader", [GStreamerFrames, FfmpegFrames])
def test_a_network_camera_shows_the_pictures_of_its_video(
    brightening: Path, tmp_path: Path, reader: Callable[[Source, int, Pace, float], Frames], slices: int
) -> None:
    sliced = tmp_path / "sliced.mp4"
    with av.open(str(brightening)) as read_from, av.open(str(sliced), "w") as written:
        stream = written.add_stream("libx264", rate=25, options={"x264-params": f"slices={slices}:keyint=5:bframes=0"})
        stream.width, stream.height = 128, 96
        for frame in read_from.decode(video=0):
            written.mux(stream.encode(frame.reformat(format="yuv420p")))
        written.mux(stream.encode(None))
    with rtsp_cameras(sliced) as (door,):
        (source,) = parse_sources([door.address])
        found = list(islice(reader(source, 64, Pace(2), 20.0), 6))
    (video,) = parse_sources([str(sliced)])
    expected = list(FfmpegFrames(video, 64, Pace(1), 20.0))
    assert all(min(difference(one, other) for other in expected) < 3 for one in found)


@needs_gstreamer
@pytest.mark.slow
@pytest.mark.parametrize("decoder", [Decoder.GSTREAMER, Decoder.FFMPEG])
def test_of_two_cameras_one_breaks_off_and_comes_back_while_the_other_goes_on(
    long_video: Path, decoder: Decoder
) -> None:
    notes: list[str] = []
    with rtsp_cameras(long_video, long_video) as (door, yard):
        sources = parse_sources([f"door={door.address}", f"yard={yard.address}"])
        with open_windows(sources, notes, decoder=decoder, retries=1000) as windows:
            arrivals: dict[str, list[float]] = {"door": [], "yard": []}
            came_back = False
            for window in flatten(windows):
                arrivals[window.camera].append(time.monotonic())
                if len(arrivals["yard"]) == 2 and not notes:
                    yard.switch_off()
                    notes.append("switched off")
                elif len(arrivals["door"]) == 8 and yard.is_off:
                    yard.switch_on()
                came_back = len(arrivals["door"]) > 8 and len(arrivals["yard"]) > 4
                if came_back:
                    break
    assert came_back
    assert any(note.startswith("yard: ") and "opening it again" in note for note in notes)
    assert not [note for note in notes if note.startswith("door: ")]


@needs_gstreamer
@pytest.mark.slow
@pytest.mark.parametrize("decoder", [Decoder.GSTREAMER, Decoder.FFMPEG])
def test_a_camera_that_freezes_is_told_and_delays_no_other(long_video: Path, decoder: Decoder) -> None:
    notes: list[str] = []
    with rtsp_cameras(long_video, long_video) as (door, yard):
        sources = parse_sources([f"door={door.address}", f"yard={yard.address}"])
        with open_windows(sources, notes, decoder=decoder, retries=1000, timeout_seconds=4.0) as windows:
            count = 0
            for window in flatten(windows):
                count += window.camera == "door"
                if count == 2:
                    yard.freeze()
                if any("no frame came for 4 s" in note for note in notes):
                    break
                assert count < 40
    assert [note for note in notes if not note.startswith("yard: ")] == []


def open_windows(
    sources: tuple[Source, ...], notes: list[str] | None = None, every: int = 8, **options: object
) -> LiveWindows:
    given = {"decoder": Decoder.GSTREAMER, "retries": 0, **options}
    tell = notes.append if notes is not None else print
    return LiveWindows(sources, CLIP, StreamOptions(every, **given), tell, 2)  # type: ignore[arg-type]


def flatten(windows: LiveWindows) -> Iterator[Window]:
    for gathered in windows:
        if not isinstance(gathered, Ended):
            yield from gathered


@pytest.mark.parametrize(
    ("elements", "steps"),
    [
        (SOFTWARE, ["h264parse", "avdec_h264", "framerate=15/1", "aspectratiocrop", "videoscale", "I420,width=224"]),
        (
            SOFTWARE | JETSON,
            ["nvv4l2decoder", "framerate=15/1", "nvvidconv", "width=398,height=224", "aspectratiocrop", "width=224"],
        ),
        (
            SOFTWARE | DESKTOP,
            ["nvh264dec", "framerate=15/1", "cudaconvertscale", "width=398,height=224", "cudadownload", "width=224"],
        ),
    ],
)
def test_the_pipeline_is_made_of_what_the_machine_has(elements: frozenset[str], steps: list[str]) -> None:
    (source,) = parse_sources(["rtsp://a:b@camera/1"])
    text = " ! ".join(build_pipeline(source, HD, Pace(2), 224, elements))
    assert text.startswith('rtspsrc location="rtsp://a:b@camera/1" protocols=tcp')
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


def test_what_decodes_is_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    sources = parse_sources(["rtsp://camera", str(video), "csi://0"], ["videotestsrc"])
    for elements, expected in ((SOFTWARE, [0, 0, 1, 1]), (SOFTWARE | JETSON, [1, 0, 1, 1])):
        monkeypatch.setattr(gstreamer, "list_elements", lambda found=elements: found)
        assert [is_chosen(source, Decoder.AUTO) for source in sources] == list(map(bool, expected))
    assert is_chosen(sources[1], Decoder.GSTREAMER)
    assert not is_chosen(sources[0], Decoder.FFMPEG)


def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rtsp, csi, tcp = parse_sources(["rtsp://camera", "csi://0", "tcp://camera:1"])
    monkeypatch.setattr(gstreamer, "list_elements", lambda: SOFTWARE)
    gstreamer.require_readable(rtsp)
    with pytest.raises(MissingDependencyError, match="nvarguscamerasrc"):
        gstreamer.require_readable(csi)
    with pytest.raises(StreamError, match="tcp://"):
        gstreamer.require_readable(tcp)
    monkeypatch.setattr(gstreamer, "list_elements", frozenset)
    with pytest.raises(MissingDependencyError) as missing:
        gstreamer.require_readable(rtsp)
    assert missing.value.fix.startswith("apt install gstreamer1.0-tools")
