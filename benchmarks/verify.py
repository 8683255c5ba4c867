"""`dualexport verify` beside the bare runs of its runners on the same clips: wall seconds, and peak memory by clips.

Usage: python benchmarks/verify.py DIR CLIPS [--clips 200]

DIR is what `dualexport onnx` wrote, CLIPS a source of at least so many videos. The bare time is that of every runner
alone, one after the other, on clips that are in memory: on half of them before `verify` and on half behind it, since
other work on the machine comes and goes. Peak memory is that of `verify` on a quarter of the clips and on all, each in
a process of its own. `verify` runs on a copy of DIR.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from dualexport.clips.listing import list_videos
from dualexport.clips.source import ClipSource
from dualexport.core.manifest import Manifest, read_manifest
from dualexport.core.runner import Runner, infer_logits
from dualexport.pipeline.runners import open_artifact, open_network

WARM_UP = 3


def time_bare(manifest: Manifest, source: ClipSource, clips: int) -> dict[str, float]:
    """Seconds of each runner alone on `clips` clips that are in memory."""
    runners: dict[str, Runner] = {"PyTorch": open_network(manifest)}
    runners |= {artifact.path.name: open_artifact(artifact) for artifact in manifest.artifacts}
    few = list(islice(source, 8))
    seconds = {}
    for name, runner in runners.items():
        with runner:
            infer_logits(runner, few[:WARM_UP])
            started = time.perf_counter()
            for number in range(clips):
                infer_logits(runner, [few[number % len(few)]])
            seconds[name] = time.perf_counter() - started
    return seconds


def time_verify(original: Path, videos: list[Path]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of `dualexport verify` on `videos`, start of the process included."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed, tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(original, Path(place) / original.name)
        listed.write("".join(f"{video.resolve()}\n" for video in videos))
        listed.flush()
        command = [sys.executable, "-m", "dualexport", "verify", str(folder), "--clips", listed.name, "--json"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{command} failed with status {status}")
    return seconds, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    options = parser.parse_args()
    manifest = read_manifest(options.folder)
    videos = [video.path for video in list_videos(options.source)][: options.clips]
    source = ClipSource(options.source, manifest.preprocessing)
    quarter, few_mb = time_verify(options.folder, videos[: len(videos) // 4])
    before = time_bare(manifest, source, len(videos) // 2)
    whole, all_mb = time_verify(options.folder, videos)
    behind = time_bare(manifest, source, len(videos) - len(videos) // 2)
    total = sum(before.values()) + sum(behind.values())
    for name, seconds in before.items():
        both = seconds + behind[name]
        print(f"{name:<40} {both:8.1f} s bare on {len(videos)} clips: {seconds:.1f} before, {behind[name]:.1f} behind")
    print(f"{'verify':<40} {whole:8.1f} s, {whole / total:.2f} of the sum of the bare times")
    print(
        f"peak memory: {few_mb:.0f} MB on {len(videos) // 4} clips ({quarter:.1f} s), {all_mb:.0f} MB on {len(videos)}"
    )


if __name__ == "__main__":
    main()
