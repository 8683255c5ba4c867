"""`dualexport.export` beside plain `torch.onnx.export` + onnxsim: wall and CPU seconds and peak memory, in one run.

Usage: python benchmarks/export.py [--model b] [--rounds 3]

Each measurement is a process of its own, they alternate, and the median of the rounds is printed. The plain script
neither checks nor proves its file; `dualexport` does both within its time. CPU seconds hold on a busy machine, too.
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
import dualexport as dx
network = dx.load(size=sys.argv[1]).module
clip = torch.zeros(1, *network.config.clip_shape)
torch.onnx.export(network, (clip,), "plain.onnx", input_names=["clip"], output_names=["logits"], opset_version=20,
                  dynamo=True, external_data=False)
model, _ = onnxsim.simplify(onnx.load("plain.onnx"))
onnx.save(model, "plain.onnx")
"""
OURS = """
import sys
import dualexport as dx
dx.export(dx.load(size=sys.argv[1]), "ours", dx.ExportOptions({options}))
"""
SCRIPTS = {
    "torch.onnx.export + onnxsim": PLAIN,
    "dualexport, the same graph": OURS.format(options='precisions=("fp32",), graph="plain"'),
    "dualexport, folded FP32+FP16": OURS.format(options=""),
}


def measure(script: str, size: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident megabytes of a script, run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", script, size]
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"{script} failed with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="b", choices=("n", "t", "s", "b"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [{name: measure(script, options.model) for name, script in SCRIPTS.items()} for _ in range(options.rounds)]
    print(
        f"DualFormer-{options.model}, median of {options.rounds} alternating runs; in brackets the ratio to the first"
    )
    first = None
    for name in SCRIPTS:
        wall, cpu, memory = map(statistics.median, zip(*(one[name] for one in rounds), strict=True))
        first = first or (wall, cpu, memory)
        print(
            f"{name:<28} {wall:7.1f} s ({wall / first[0]:.2f})  {cpu:7.1f} s of CPU ({cpu / first[1]:.2f})  "
            f"{memory:7.0f} MB peak ({memory / first[2]:.2f})"
        )


if __name__ == "__main__":
    main()
