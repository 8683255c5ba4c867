"""Requests a second and their times, by Triton and by calling the runner in one process, in alternating rounds.

Usage: python benchmarks/serving.py FOLDER VIDEO [--clients 1 4 16] [--rounds 3] [--seconds 6]

FOLDER is what `dualexport onnx` wrote; scripts/install-triton puts the server into build/triton. A round calls the
runner here, then lets 1, 4 and 16 clients ask by HTTP on the same machine, for clips (the network alone) and for videos
(the ensemble). Each client sends its next request when it has its answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from dualexport.clips.source import ClipSource
from dualexport.core.choices import TritonBackend
from dualexport.core.manifest import read_manifest
from dualexport.core.runner import infer_logits
from dualexport.pipeline.runners import open_runner
from dualexport.pipeline.serve import TritonOptions, triton

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.triton import run_client, serve

CLIENTS = """
import json, sys, threading, time
import numpy as np
import tritonclient.http as protocol
model, tensor, address, path, count, seconds = sys.argv[1:]
content, times = np.load(path), []
kind = {"uint8": "UINT8", "float32": "FP32"}[str(content.dtype)]

def ask(end):
    client = protocol.InferenceServerClient(address)
    given = protocol.InferInput(tensor, list(content.shape), kind)
    given.set_data_from_numpy(content)
    while (started := time.perf_counter()) < end:
        client.infer(model, [given])
        times.append(time.perf_counter() - started)

begun = time.perf_counter()
threads = [threading.Thread(target=ask, args=(begun + float(seconds),)) for _ in range(int(count))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([time.perf_counter() - begun, times]))
"""
Rounds = dict[tuple[str, str], list[tuple[float, list[float]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    manifest = read_manifest(options.folder)
    rounds: Rounds = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, open_runner(manifest) as runner:
        repository = triton(options.folder, Path(scratch) / "models", TritonOptions(TritonBackend.PYTHON)).folder
        source = ClipSource(options.video, manifest.preprocessing)
        clip = next(iter(source)).network_input(runner.inputs[0].dtype)[None]
        asked = {"clips": (manifest.name, runner.inputs[0].name), "videos": (f"{manifest.name}-video", "video")}
        np.save(f"{scratch}/clips.npy", clip)
        np.save(f"{scratch}/videos.npy", np.fromfile(options.video, np.uint8))
        here: dict[str, Callable[[], object]] = {
            "clips": lambda: runner.infer({runner.inputs[0].name: clip}),
            "videos": lambda: infer_logits(runner, tuple(source)),
        }
        with serve(repository, f"{manifest.name}-video", Path(scratch)) as server:
            for _ in range(options.rounds):
                for what, (model, tensor) in asked.items():
                    rounds[what, "in one process"].append(call(here[what], options.seconds))
                    for count in options.clients:
                        given = (model, tensor, server.http, f"{scratch}/{what}.npy", count, options.seconds)
                        seconds, times = run_client(CLIENTS, *given)
                        rounds[what, f"{count} clients"].append((seconds, times))
    print_rates(rounds)


def call(answer: Callable[[], object], seconds: float) -> tuple[float, list[float]]:
    """The seconds that calling took in all, and each call's."""
    begun, times = time.perf_counter(), list[float]()
    while (started := time.perf_counter()) < begun + seconds:
        answer()
        times.append(time.perf_counter() - started)
    return time.perf_counter() - begun, times


def print_rates(rounds: Rounds) -> None:
    """A line a row: requests a second, as a ratio to calling in the same round (medians), median and p99 in ms."""
    for (what, how), measured in rounds.items():
        rates = np.array([len(times) / seconds for seconds, times in measured])
        called = np.array([len(times) / seconds for seconds, times in rounds[what, "in one process"]])
        times = 1e3 * np.concatenate([times for _, times in measured])
        print(
            f"{what:7} {how:15} {np.median(rates):7.1f} a second  x{np.median(rates / called):.2f}  "
            f"median {np.median(times):7.1f} ms  p99 {np.percentile(times, 99):7.1f} ms  ({len(times)} requests)"
        )


if __name__ == "__main__":
    main()
