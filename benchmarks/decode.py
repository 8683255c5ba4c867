"""Seconds to read a clip from each video given, and from a 10-minute one: with seeking, and decoding from the start.

Usage: python benchmarks/decode.py [VIDEO ...]

The 10-minute video (1280x720, 25 frames a second, a keyframe every 10 s) is generated once in a temporary folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from dualexport.clips import video
from dualexport.clips.preprocess import sample_frames
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.errors import ClipError
from dualexport.core.types import Preprocessing

CLIP = Preprocessing()
LONG_FRAMES, LONG_SIZE = 15_000, (720, 1280)
ROUNDS = 3


def median_seconds(read: Callable[[], object], rounds: int = ROUNDS) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def report(path: Path, views: int, rounds: int) -> None:
    index = video.count_frames(path)
    indices = sample_frames(index.count, CLIP.frames, CLIP.stride, views)
    wanted = sorted({number for view in indices for number in view})
    seeking = median_seconds(lambda: video.read_frames(path, video.count_frames(path), wanted, CLIP.size), rounds)
    counting = median_seconds(lambda: (video.count_frames(path), video._read_counting(path, wanted, CLIP.size)), rounds)
    print(
        f"{path.name:<26} {index.count:6d} frames  views {views}  seeking {seeking:7.3f} s  "
        f"from the start {counting:7.3f} s  ratio {counting / seeking:5.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    for path in parser.parse_args().videos:
        try:
            for views in (1, 4):
                report(path, views, ROUNDS)
        except ClipError as error:
            print(error)
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "ten_minutes.mp4"
        scene = render_pattern(0, 250, *LONG_SIZE)  # ten seconds, over and over
        frames = (scene[number % len(scene)] for number in range(LONG_FRAMES))
        write_video(long, islice(frames, LONG_FRAMES))
        for views in (1, 4):
            report(long, views, 1)


if __name__ == "__main__":
    main()
