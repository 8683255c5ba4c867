"""Live sources, as ratios of one run: CPU time a frame to bare decoding, four in real time, batch 4 to batch 1.

Usage: python benchmarks/live.py FOLDER-OF-BATCH-1 FOLDER-OF-BATCH-4 [--seconds 8]

Both folders are of one network (`dualexport onnx --model demo --stts T0:0.5`, and again with `--batch 4`). The videos
are generated in a temporary folder: moving patterns with noise, which cost about what a camera's pictures cost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from dualexport.clips.addresses import Source, parse_sources
from dualexport.clips.camera import StreamOptions
from dualexport.clips.ffmpeg_frames import FfmpegFrames
from dualexport.clips.gstreamer import SOFTWARE, list_elements
from dualexport.clips.gstreamer_frames import GStreamerFrames
from dualexport.clips.pacing import Pace
from dualexport.clips.synthetic import render_pattern
from dualexport.core.choices import Runtime
from dualexport.core.manifest import find_manifest
from dualexport.core.types import Preprocessing
from dualexport.pipeline.runners import find_artifact, open_beside_others
from dualexport.pipeline.stream import CameraSummary, LiveStream

CLIP = Preprocessing()
ROUNDS = 5
FPS = 30


def make_video(path: Path, height: int, width: int, frames: int) -> Path:
    """A moving pattern with noise, in H.264 as a network camera sends it: no B-frames, a keyframe a second."""
    scene, noise = render_pattern(0, 60, height, width), np.random.default_rng(0)
    grain = [noise.normal(0, 1.5, (height, width, 1)) for _ in range(8)]
    with av.open(str(path), "w") as written:
        stream = written.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "tune": "zerolatency", "g": "30"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.clip(scene[number % len(scene)] + grain[number % len(grain)], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    return path


def decode(path: Path) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of those it started."""
    before = sum(times_of_all())
    work()
    return sum(times_of_all()) - before


def times_of_all() -> Iterator[float]:
    times = os.times()
    yield from (times.user, times.system, times.children_user, times.children_system)


def report_frames(path: Path, frames: int) -> None:
    (source,) = parse_sources([str(path)])
    ways: dict[str, Callable[[], object]] = {
        "bare decoding": lambda: decode(path),
        "FFmpeg, every frame": lambda: list(FfmpegFrames(source, CLIP.size, Pace(1), 60)),
        "FFmpeg, stride 2": lambda: list(FfmpegFrames(source, CLIP.size, Pace(2), 60)),
    }
    if list_elements() >= SOFTWARE:
        ways["GStreamer in software, stride 2"] = lambda: list(GStreamerFrames(source, CLIP.size, Pace(2), 60))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            seconds[name].append(cpu_seconds(work))
    for name, own in seconds.items():
        ratio = statistics.median(one / bare for one, bare in zip(own, seconds["bare decoding"], strict=True))
        print(f"{name:<34} {statistics.median(own) / frames * 1e3:6.2f} CPU ms a frame  ratio {ratio:.2f}")


def run_stream(
    folder: Path, sources: tuple[Source, ...], options: StreamOptions
) -> tuple[float, tuple[CameraSummary, ...]]:
    manifest = find_manifest(folder)
    artifact = find_artifact(manifest, Runtime.ONNX)
    assert artifact is not None
    with open_beside_others(artifact) as runner:
        live = LiveStream(runner, sources, manifest.preprocessing, options)
        started = time.monotonic()
        with live:
            for _ in live:
                pass
        return time.monotonic() - started, live.summarize()


def paced(path: Path) -> str:
    """A file in real time: a connection that sends no faster than it plays."""
    return f"filesrc location={path} ! matroskademux ! h264parse ! avdec_h264 max-threads=1 ! identity sync=true"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("single", type=Path)
    parser.add_argument("batched", type=Path)
    parser.add_argument("--seconds", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report_frames(make_video(Path(folder) / "1080p.mkv", 1080, 1920, 150), 150)
        videos = [make_video(Path(folder) / f"{name}.mkv", 720, 1280, given.seconds * FPS) for name in "abcd"]
        if list_elements() >= SOFTWARE:
            for name in (given.single, given.batched):
                sources = parse_sources([], map(paced, videos))
                _, cameras = run_stream(name, sources, StreamOptions(every=FPS))
                report_cameras(f"four 720p sources in real time, {name.name}", cameras)
        seconds = {}
        for name in (given.single, given.batched):
            seconds[name], cameras = run_stream(name, parse_sources(map(str, videos)), StreamOptions(every=FPS))
            report_cameras(f"four 720p files as fast as they go, {name.name}", cameras)
        print(f"windows a second, batched to single: {seconds[given.single] / seconds[given.batched]:.2f}")


def report_cameras(title: str, cameras: tuple[CameraSummary, ...]) -> None:
    windows, dropped = sum(one.windows for one in cameras), sum(one.dropped for one in cameras)
    worst = max(one.latency_p99_ms or 0.0 for one in cameras)
    print(f"{title}: {windows} windows, {dropped} frames dropped, worst p99 {worst:.0f} ms")


if __name__ == "__main__":
    main()
