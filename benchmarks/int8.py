"""INT8 and FP8 beside what they are worth: FP32, FP16, ours, ONNX Runtime's static quantizer and ModelOpt, in one run.

Usage: python benchmarks/int8.py DIR --calibrate SOURCE --held-out SOURCE [--max-clips 64] [--rounds 7]
                                 [--modelopt PYTHON] [--plain DIR] [--methods percentile mse]
                                 [--devices agx-orin rtx-4090]

DIR is what `dualexport onnx` wrote (FP32 and FP16, folded). Prints for every file: signal to noise of the logits and
agreement with FP32 on held-out clips, top-1 where those are labelled (with the class names that the network was
exported with), the share of the multiply-accumulates in 8 bits, plan (layers, attentions fused, MB moved) where
TensorRT is installed, and the median latency on this CPU in alternating runs. Ours is there by placement, in INT8 and
in FP8: what is free, what pays on each device asked for, and all, by every method asked for; and with FP32 as its base.

The quantizers of others are given what they are made for: the plain FP32 graph in the folder --plain (`dualexport onnx
--graph plain`), the folded one, and the folded one with only the layers that ours quantizes, all and the free ones, for
an equal share. ModelOpt runs in an environment of its own, whose Python --modelopt names (pip install
"nvidia-modelopt[onnx]"); without it the rows say so.

The seconds of a file of ours hold the calibration where it is the first of its format and method.

Signal to noise is of the graphs as they are written: ONNX Runtime computes them without its optimizations, whose
INT8 kernels lose sums on a CPU without VNNI.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.placement import free_layers
from dualexport.core.choices import DeviceName, Method, Place, Precision
from dualexport.core.errors import DualExportError, QuantizationError
from dualexport.core.files import hash_file
from dualexport.core.manifest import find_manifest
from dualexport.core.types import Clip
from dualexport.graphs.load import load_graph
from dualexport.graphs.work import read_graph_work
from dualexport.pipeline.calibrate import find_folded
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.plan import plan_onnx
from dualexport.pipeline.quantize import QuantizeOptions, quantize
from dualexport.runtimes.onnx_runner import ERRORS_ONLY, NUMPY_TYPES, OnnxRunner
from dualexport.runtimes.plans.devices import DEVICES
from onnxruntime.quantization import CalibrationDataReader, quantize_static

MODELOPT = """
import re, sys, numpy as np
from modelopt.onnx.quantization import quantize
source, target, clips, *layers = sys.argv[1:]
quantize(source, quantize_mode="int8", calibration_method="entropy", output_path=target,
         calibration_data={"clip": np.load(clips)}, calibration_eps=["cpu"], high_precision_dtype="fp16",
         nodes_to_quantize=[re.escape(layer) for layer in layers] or None)
"""
MODELOPT_MINUTES = 20
COLUMNS = ("file", "dB", "agreement", "top-1", "8 bits", "layers", "fused", "MB", "CPU s", "made in s")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to measure, and how long making it took."""

    name: str
    path: Path
    seconds: float | None = None


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Clips as ONNX Runtime's quantizer reads them."""

    def __init__(self, clips: Iterable[Clip], dtype: str) -> None:
        self.clips, self.dtype = iter(clips), dtype

    def get_next(self) -> dict[str, np.ndarray] | None:
        clip = next(self.clips, None)
        return None if clip is None else {"clip": clip.network_input(self.dtype)[None]}


def list_ours(methods: list[Method], devices: list[DeviceName]) -> Iterator[tuple[str, QuantizeOptions]]:
    """INT8 and FP8 by placement, every method with all layers, and an FP32 rest."""
    default = methods[0]
    yield "ours, int8, free", QuantizeOptions(default)
    for device in devices:
        yield f"ours, int8, {device.value}", QuantizeOptions(default, device=device)
    yield f"ours, int8, all, {default.value}, FP32 base", QuantizeOptions(default, base=Precision.FP32)
    for method in methods:
        yield f"ours, int8, all, {method.value}", QuantizeOptions(method, place=Place.ALL)
    yield "ours, fp8, free", QuantizeOptions(precision=Precision.FP8)
    for device in (one for one in devices if DEVICES[one].fp8_tops):
        yield f"ours, fp8, {device.value}", QuantizeOptions(precision=Precision.FP8, device=device)
    yield "ours, fp8, all", QuantizeOptions(precision=Precision.FP8, place=Place.ALL)


def make_ours(
    folder: Path, scratch: Path, clips: Clips, methods: list[Method], devices: list[DeviceName]
) -> Iterator[Entry]:
    """Every file of ours, those of one format and method from one calibration; what pays nowhere is told, left out."""
    for name, options in list_ours(methods, devices):
        kind = Precision(options.precision).value
        copy = scratch / f"{kind}-{options.method}"
        is_calibrated = copy.exists()
        if not is_calibrated:
            shutil.copytree(folder, copy)
        started = time.monotonic()
        try:
            made = quantize(copy, None if is_calibrated else clips, options)
        except QuantizationError as error:
            print(f"{name}: {error}", flush=True)
            continue
        kept = made.artifact.path.replace(scratch / f"{name.replace(', ', '-')}.onnx")
        yield Entry(name, kept, time.monotonic() - started)


def make_static(
    name: str, source: Path, target: Path, clips: list[Clip], layers: Sequence[str] = ()
) -> Iterator[Entry]:
    """ONNX Runtime's static quantizer with its defaults; with `layers`, of these nodes only."""
    with OnnxRunner(source) as runner:
        dtype = runner.inputs[0].dtype
    started = time.monotonic()
    quantize_static(source, target, Reader(clips, dtype), nodes_to_quantize=list(layers))
    yield Entry(name, target, time.monotonic() - started)


def make_modelopt(
    name: str, source: Path, target: Path, clips: list[Clip], python: Path, layers: Sequence[str] = ()
) -> Iterator[Entry]:
    """ModelOpt's ONNX quantizer with its defaults and an FP16 rest; with `layers`, of these nodes only."""
    with OnnxRunner(source) as runner:
        dtype = runner.inputs[0].dtype
    stored, started = target.with_suffix(".npy"), time.monotonic()
    np.save(stored, np.stack([clip.network_input(dtype) for clip in clips]))
    try:
        command = [*map(str, (python, "-c", MODELOPT, source, target, stored)), *layers]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 * MODELOPT_MINUTES)
    except subprocess.TimeoutExpired:
        print(f"{name}: not done in {MODELOPT_MINUTES} minutes", flush=True)
        return
    except subprocess.CalledProcessError as error:
        print(f"{name}: failed: {error.stderr.splitlines()[-1:]}", flush=True)
        return
    yield Entry(name, target, time.monotonic() - started)


def infer(path: Path, clips: list[Clip]) -> np.ndarray:
    """Logits of all clips, computed as the graph is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    dtype = NUMPY_TYPES[spec.type]
    return np.concatenate(
        [session.run(["logits"], {spec.name: clip.network_input(dtype)[None]})[0] for clip in clips]
    ).astype(np.float32)


def time_all(entries: list[Entry], clip: Clip, rounds: int) -> dict[str, float]:
    """Median seconds of each file, in alternating runs."""
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    runners = {entry.name: OnnxRunner(entry.path) for entry in entries}
    for round_ in range(rounds + 1):
        for name, runner in runners.items():
            spec = runner.inputs[0]
            feed = {spec.name: clip.network_input(spec.dtype)[None]}
            started = time.perf_counter()
            runner.infer(feed)
            if round_:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def sum_eight_bits(path: Path) -> float:
    """The share of the multiply-accumulates in INT8 or FP8."""
    return sum(share for name, share in read_graph_work(path).shares.items() if Precision(name).is_eight_bit)


def describe_plan(path: Path) -> tuple[str, str, str]:
    try:
        plan = plan_onnx(path)
    except DualExportError as error:
        return (str(error)[:40], "", "")
    return (str(len(plan.layers)), f"{plan.fused_attentions} of {plan.attentions}", f"{plan.moved_bytes / 1e6:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--plain", type=Path, help="folder with the plain FP32 graph of the same network")
    parser.add_argument("--modelopt", type=Path, help="the Python that has ModelOpt")
    parser.add_argument("--max-clips", type=int, default=64)
    parser.add_argument("--max-held-out", type=int, default=240)
    parser.add_argument("--views", type=int, default=1, help="of each held-out video")
    parser.add_argument("--methods", type=Method, nargs="+", default=list(Method))
    parser.add_argument("--devices", type=DeviceName, nargs="*", default=[DeviceName.AGX_ORIN, DeviceName.RTX_4090])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    manifest = find_manifest(options.folder)
    source = Clips(options.calibrate, skip_unreadable=True, max_clips=options.max_clips)
    held_out = Clips(options.held_out, options.views, skip_unreadable=True).open(manifest.preprocessing)
    clips = list(islice(held_out, options.max_held_out))
    reference, half = (find_folded(manifest, precision).path for precision in (Precision.FP32, Precision.FP16))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        entries = [Entry("FP32", reference), Entry("FP16", half)]
        for made in list_makers(options, reference, scratch, source):
            for entry in made:
                print(f"made {entry.name}", flush=True)
                entries.append(entry)
        report(entries, clips, manifest.labels, options.rounds)


def list_makers(
    options: argparse.Namespace, reference: Path, scratch: Path, source: Clips
) -> Iterator[Iterator[Entry]]:
    """One maker a quantizer; each makes its files when it is gone through."""
    yield make_ours(options.folder, scratch, source, options.methods, options.devices)
    preprocessing = find_manifest(options.folder).preprocessing
    clips, layers = list(source.open(preprocessing)), find_layers(load_graph(reference))
    free = free_layers(layers)
    plain = find_manifest(options.plain).artifact_of("onnx", Precision.FP32).path if options.plain else None
    if options.modelopt is None:
        print("ModelOpt: not installed, see --modelopt", flush=True)
    for label, path, only in (
        ("plain graph", plain, []),
        ("folded graph", reference, []),
        ("folded graph, our layers", reference, [layer.node for layer in layers]),
        ("folded graph, free layers", reference, [layer.node for layer in layers if layer.name in free]),
    ):
        if path is None:
            continue
        target = scratch / label.replace(" ", "-")
        yield make_static(f"ONNX Runtime static, {label}", path, target.with_suffix(".ort.onnx"), clips, only)
        if options.modelopt is not None:
            target = target.with_suffix(".modelopt.onnx")
            yield make_modelopt(f"ModelOpt, {label}", path, target, clips, options.modelopt, only)


def report(entries: list[Entry], clips: list[Clip], labels: tuple[str, ...], rounds: int) -> None:
    print(f"{len(clips)} held-out clips\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    times = time_all(entries, clips[0], rounds)
    expected = infer(entries[0].path, clips)
    truth = [labels.index(clip.label) if clip.label in labels else None for clip in clips]
    known = {hash_file(entries[0].path): expected}  # placements may be the same
    for entry in entries:
        digest = hash_file(entry.path)
        got = known[digest] = known[digest] if digest in known else infer(entry.path, clips)
        noise = float(np.square(got - expected).sum())
        decibels = f"{10 * np.log10(np.square(expected).sum() / noise):.1f}" if noise else ""
        agreement = float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
        top1 = None if None in truth else float((got.argmax(axis=1) == np.array(truth)).mean())
        row = (
            entry.name,
            decibels,
            f"{agreement:.1%}",
            "" if top1 is None else f"{top1:.1%}",
            f"{sum_eight_bits(entry.path):.1%}",
            *describe_plan(entry.path),
            f"{times[entry.name]:.3f}",
            "" if entry.seconds is None else f"{entry.seconds:.0f}",
        )
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
