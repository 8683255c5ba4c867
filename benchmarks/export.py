"""`dualexport onnx` beside plain `torch.onnx.export` + onnxsim: wall seconds and peak memory, in one run.

Usage: python benchmarks/export.py [--model b] [--rounds 3]

Each measurement is a process of its own, they alternate, and the median of the rounds is printed. The plain script
neither checks nor proves its file; `dualexport onnx` does both within its time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

PLAIN = """
import sys
import onnx, onnxsim, torch
from dualexport.core.types import ModelSize
from dualexport.exporter.checkpoint import build_random_network
network = build_random_network(ModelSize(sys.argv[1]), 0)
clip = torch.zeros(1, *network.config.clip_shape)
torch.onnx.export(network, (clip,), "plain.onnx", input_names=["clip"], output_names=["logits"], opset_version=20,
                  dynamo=True, external_data=False)
model, _ = onnxsim.simplify(onnx.load("plain.onnx"))
onnx.save(model, "plain.onnx")
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of a command, run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"{command[:3]} failed with status {status}")
    return seconds, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="b", choices=("n", "t", "s", "b"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours = [sys.executable, "-m", "dualexport", "onnx", "--model", options.model]
    commands = {
        "torch.onnx.export + onnxsim": [sys.executable, "-c", PLAIN, options.model],
        "dualexport, the same graph": [*ours, "--graph", "plain", "--precision", "fp32"],
        "dualexport, folded FP32+FP16": ours,
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            results[name].append(measure(command))
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in results.items()
    }
    plain_seconds, plain_megabytes = next(iter(medians.values()))
    print(
        f"DualFormer-{options.model}, median of {options.rounds} alternating runs; in brackets the ratio to the first"
    )
    for name, (seconds, megabytes) in medians.items():
        print(
            f"{name:<28} {seconds:7.1f} s ({seconds / plain_seconds:.2f})  "
            f"{megabytes:7.0f} MB peak ({megabytes / plain_megabytes:.2f})"
        )


if __name__ == "__main__":
    main()
