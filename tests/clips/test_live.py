"""A live source as windows: of files, and of streams that stall and break off."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from dualexport.clips import camera, ffmpeg_frames
from dualexport.clips.addresses import parse_sources
from dualexport.clips.camera import StreamOptions, Window
from dualexport.clips.live import Ended, LiveWindows
from dualexport.clips.preprocess import Frame
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.clips.video import count_frames, read_frames, to_upright
from dualexport.core.errors import StreamError
from dualexport.core.types import Preprocessing
from dualexport.runtimes.machine.memory import read_resident_mb

CLIP = Preprocessing(frames=8, stride=2, size=64)
SPAN = 15  # frames from the first of a window to the last


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """60 frames as a camera sends them: MPEG-TS."""
    source = tmp_path_factory.mktemp("stream") / "source.mp4"
    write_video(source, render_pattern(1, 60, 96, 128), keyframe_interval=12)
    target = source.with_suffix(".ts")
    with av.open(str(source)) as read, av.open(str(target), "w", format="mpegts") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return target.read_bytes()


@contextmanager
def serve(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that gives each connection the next answer; further ones are refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def accept() -> None:
            for answer in answers:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)
            server.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


class Windows:
    """The windows of sources one by one, though they come in batches; `ended` names the cameras that have."""

    def __init__(self, gathered: LiveWindows) -> None:
        self.gathered = gathered
        self.ended: list[str] = []

    def __enter__(self) -> Windows:
        self.gathered.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self.gathered.__exit__(*problem)

    def __iter__(self) -> Iterator[Window]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[tuple[Window, ...]]:
        for gathered in self.gathered:
            if isinstance(gathered, Ended):
                self.ended.append(gathered.camera)
            else:
                yield gathered


def open_windows(*sources: object, notes: list[str] | None = None, most: int = 1, **options: float) -> Windows:
    given = {"every": 10, "timeout_seconds": 0.6, "retries": 1, **options}
    tell = notes.append if notes is not None else print
    parsed = parse_sources(map(str, sources))
    return Windows(LiveWindows(parsed, CLIP, StreamOptions(**given), tell, most))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "RETRY_SECONDS", 0.05)


def test_a_file_becomes_every_window_of_it_however_slow_the_reader(video: Path) -> None:
    with open_windows(video) as windows:
        taken = []
        for window in windows:
            taken.append(window)
            time.sleep(0.01)
    assert [window.end for window in taken] == [15, 25, 35, 45, 55]
    assert {window.dropped for window in taken} == {0}
    index = count_frames(video)
    for window in taken:
        numbers = list(range(window.end - SPAN, window.end, CLIP.stride))
        frames = read_frames(video, index, numbers, CLIP.size)
        np.testing.assert_array_equal(window.frames, np.stack([frames[number] for number in numbers]))


def test_a_file_shorter_than_a_window_goes_round_as_in_a_clip_source(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_video(path, render_pattern(2, 9, 96, 128))
    with open_windows(path) as windows:
        (window,) = windows
    (clip,) = ClipSource(path, CLIP)
    np.testing.assert_array_equal(window.frames, clip.data)


def test_a_stream_that_breaks_off_is_opened_again_and_then_given_up(transport_stream: bytes) -> None:
    def send_all(connection: socket.socket) -> None:
        connection.sendall(transport_stream)

    notes: list[str] = []
    with (
        serve(send_all, send_all) as address,
        pytest.raises(StreamError, match="without a frame") as ended,
        open_windows(address, notes=notes) as windows,
    ):
        ends = [window.end for window in windows]
        pytest.fail(f"it ended without an error after {ends}")
    assert "opening it again (1 of 1)" in notes[0]
    assert len(notes) == 2
    assert "--retries" in ended.value.fix


def test_without_retries_a_stream_that_had_frames_says_how_many(transport_stream: bytes) -> None:
    with (
        serve(lambda connection: connection.sendall(transport_stream)) as address,
        pytest.raises(StreamError, match=r"after \d+ frames") as ended,
        open_windows(address, notes=[], retries=0) as windows,
    ):
        list(windows)
    assert "without a frame" not in str(ended.value)


def test_a_file_at_an_address_ends_with_its_last_frame(video: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        content = video.read_bytes()
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(content)}\r\nContent-Type: video/mp4\r\n\r\n"
        connection.sendall(head.encode() + content)

    notes: list[str] = []
    with serve(*[answer] * 4) as server:
        address = server.replace("tcp", "http") + "/x.mp4"
        with open_windows(address, notes=notes) as windows:
            assert list(windows)
    assert notes == []


def test_windows_of_a_live_source_hold_its_newest_frames(transport_stream: bytes) -> None:
    def send_slowly(connection: socket.socket) -> None:
        for start in range(0, len(transport_stream), 4096):
            connection.sendall(transport_stream[start : start + 4096])
            time.sleep(0.005)

    taken = []
    with serve(send_slowly) as address, open_windows(address, retries=0) as windows, pytest.raises(StreamError):
        for window in windows:
            taken.append(window)
            assert window.frames.shape == (8, 64, 64, 3)
            time.sleep(0.2)  # slower than the source
    assert taken
    assert all(later.end >= window.end + 10 for window, later in pairwise(taken))
    unseen = sum(max(0, later.end - SPAN - window.end) for window, later in pairwise(taken))
    assert taken[-1].dropped == unseen + max(0, taken[0].end - SPAN)


def test_a_stream_that_stalls_is_told_and_given_up(transport_stream: bytes) -> None:
    released = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(transport_stream[: len(transport_stream) // 2])
        released.wait(10)

    notes: list[str] = []
    started = time.monotonic()
    with serve(stall, stall) as address, pytest.raises(StreamError), open_windows(address, notes=notes) as windows:
        list(windows)
    released.set()
    assert any("no frame came for 0.6 s" in note for note in notes)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", ["gone.mp4", "text.mp4"])
def test_a_file_that_is_no_video_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(StreamError, match=name), open_windows(tmp_path / name) as windows:
        list(windows)


def test_leaving_in_the_middle_ends_the_decoder(video: Path) -> None:
    with open_windows(video) as windows:
        next(iter(windows))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]


@pytest.mark.parametrize("every", [10, 7])
def test_only_frames_that_a_window_uses_are_converted(video: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []

    def count(frame: VideoFrame, size: int) -> Frame:
        converted.append(frame)
        return to_upright(frame, size)

    monkeypatch.setattr(ffmpeg_frames, "to_upright", count)
    with open_windows(video, every=every) as windows:
        ends = [window.end for window in windows]
    assert ends == list(range(SPAN, 61, every))
    assert len(converted) == (30 if every == 10 else 60)


def test_at_a_pace_a_window_of_any_camera_is_as_long(tmp_path: Path) -> None:
    path = tmp_path / "slow.mp4"
    write_video(path, render_pattern(2, 30, 96, 128))  # 25 frames a second
    with open_windows(path, fps=50.0) as windows:
        taken = list(windows)
    assert [window.end for window in taken] == [15, 25, 35, 45, 55]
    assert all(window.end_seconds - window.start_seconds == pytest.approx(14 / 50) for window in taken)
    frames = read_frames(path, count_frames(path), range(30), CLIP.size)
    np.testing.assert_array_equal(taken[1].frames, np.stack([frames[number] for number in range(5, 13)]))


def test_windows_of_several_sources_come_in_batches_and_each_source_keeps_its_own_count(
    video: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.mp4"
    write_video(short, render_pattern(2, 40, 96, 128))
    names = (f"a={video}", f"b={short}", f"c={video}")
    with open_windows(*names, most=2, max_delay_seconds=5) as windows:
        batches = list(windows.batches())
    assert max(map(len, batches)) == 2
    ends: dict[str, list[int]] = {}
    for window in (window for batch in batches for window in batch):
        ends.setdefault(window.camera, []).append(window.end)
    assert ends == {"a": [15, 25, 35, 45, 55], "b": [15, 25, 35], "c": [15, 25, 35, 45, 55]}
    assert all(len({window.camera for window in batch}) == len(batch) for batch in batches)
    assert sorted(windows.ended) == ["a", "b", "c"]


def test_a_camera_that_is_stuck_delays_no_other_and_its_end_is_noted(video: Path) -> None:
    released = threading.Event()
    notes: list[str] = []

    def keep_quiet(_: socket.socket) -> None:
        released.wait(20)

    with serve(keep_quiet, keep_quiet) as address:
        windows = open_windows(video, address, notes=notes, most=2, max_delay_seconds=600, timeout_seconds=2)
        with pytest.raises(StreamError, match="no frame came"), windows:
            ends = []
            for window in windows:
                ends.append(window.end)
                assert not notes  # every window of the file is there before the camera is given up
        released.set()
    assert ends == [15, 25, 35, 45, 55]
    assert windows.ended == [str(video), address]
    assert "the other cameras go on" in notes[-1]


def test_a_camera_that_comes_back_goes_on_counting_and_no_window_spans_the_break(transport_stream: bytes) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(transport_stream)

    taken: list[Window] = []
    with (
        serve(send, send) as address,
        pytest.raises(StreamError),
        open_windows(address, notes=[], every=1) as windows,
    ):
        taken = []
        for window in windows:
            taken.append(window)
    first, last = taken[0], taken[-1]
    assert first.end <= 60 < 60 + SPAN <= last.end
    for window in taken:
        assert not window.end - SPAN < 60 < window.end
    assert last.start_seconds > first.end_seconds
    assert abs(last.end_seconds - time.time()) < 60


@pytest.mark.slow
def test_memory_stays_flat_over_20_000_frames(tmp_path: Path) -> None:
    once, long = tmp_path / "once.mp4", tmp_path / "long.mp4"
    write_video(once, render_pattern(2, 500, 64, 64))
    repeat(once, long, 40)
    with open_windows(long) as windows:
        frames = iter(windows)
        for _ in range(100):
            next(frames)
        resident = read_resident_mb() or 0.0
        tracemalloc.start()
        try:
            (before, _), count = tracemalloc.get_traced_memory(), sum(1 for _ in frames)
            after, _ = tracemalloc.get_traced_memory()
            grown = (read_resident_mb() or 0.0) - resident
        finally:
            tracemalloc.stop()
    assert count == (20_000 - SPAN) // 10 + 1 - 100
    assert after - before < 1_000_000  # ten windows
    assert grown < 30  # megabytes, of the decoder too, whose frames take 120 together


def repeat(video: Path, target: Path, times: int) -> None:
    """Write a video that shows another one so many times, without encoding it again."""
    with av.open(str(target), "w") as written:
        for turn in range(times):
            with av.open(str(video)) as read:
                source = read.streams.video[0]
                stream = written.streams.video[0] if turn else written.add_stream_from_template(source)
                for packet in read.demux(source):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts += turn * (source.duration or 0)
                        packet.dts += turn * (source.duration or 0)
                        packet.stream = stream
                        written.mux(packet)
