"""The network in PyTorch in FP16: do the folds pay on this GPU, and how much could INT8 save? No TensorRT needed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from dualexport.core.choices import ModelSize
from dualexport.core.selection import parse_selections
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.folding.fold import fold
from torch import Tensor, nn

SELECTED = "T0:0.5"
SEED = 0
WARM_UP_SECONDS = 1.0
LEAST_RUNS = 5


def time_network(size: str, variant: str, batch: str, mode: str, *, seconds: float, dry_run: bool) -> dict[str, Any]:
    """Milliseconds of a network that is `plain`, `folded` or `folded-selected`, and how close it is to FP32."""
    clips = int(batch.removeprefix("batch "))
    device = torch.device("cpu" if dry_run else "cuda")
    if dry_run and mode != "eager":
        raise ModuleNotFoundError(f"{mode}: needs a GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    reference, network = make_network(size, variant, device)
    generator = torch.Generator().manual_seed(SEED)
    frames = torch.randn((clips, *reference.config.clip_shape), generator=generator).to(device)
    with torch.inference_mode():
        expected = torch.cat([reference(frame[None]) for frame in frames])
        given = frames.half() if variant == "plain" and not dry_run else frames
        run = prepare(network, given, mode)
        logits = run().float()
        times = time_runs(run, 0.0 if dry_run else WARM_UP_SECONDS, seconds, device)
    return {
        "ms": times,
        "clip_ms": times["p50"] / clips,
        "numbers": describe(expected.cpu().numpy(), logits.cpu().numpy()),
        "weights": "random",
        "peak_mb": None if dry_run else torch.cuda.max_memory_allocated() / 1e6,
    }


def make_network(size: str, variant: str, device: torch.device) -> tuple[DualFormer, nn.Module]:
    """The plain network in FP32, and the variant of it in FP16."""
    selections = parse_selections(SELECTED) if variant == "folded-selected" else ()
    reference = build_random_network(ModelSize(size), SEED, selections)
    network: nn.Module = build_random_network(ModelSize(size), SEED) if variant == "plain" else fold(reference)
    if device.type != "cpu":  # where a rehearsal takes FP32, since a CPU is slow in FP16
        network = copy.deepcopy(network).half()
    return reference.to(device).eval(), network.to(device).eval()


def prepare(network: nn.Module, frames: Tensor, mode: str) -> Callable[[], Tensor]:
    """A function that runs the network on `frames`: eager, compiled, or replayed as a CUDA graph."""
    if mode == "compiled":
        compiled = torch.compile(network)
        return lambda: compiled(frames)
    if mode == "eager":
        return lambda: network(frames)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(frames)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result: Tensor = network(frames)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def time_runs(run: Callable[[], object], warm_up: float, seconds: float, device: torch.device) -> dict[str, float]:
    """Milliseconds of single runs, by events that are recorded behind queued work; on a CPU by the clock."""
    until = time.perf_counter() + warm_up
    while time.perf_counter() < until:
        run()
    if device.type == "cpu":
        return summarize(_time_by_clock(run, seconds))
    torch.cuda.synchronize()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < until:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(LEAST_RUNS + 1)]
        run()  # what the first event stands behind
        marks[0].record()
        for mark in marks[1:]:
            run()
            mark.record()
        torch.cuda.synchronize()
        times += [start.elapsed_time(end) for start, end in pairwise(marks)]
    return summarize(times)


def time_products(size: str, batch: str, *, seconds: float, dry_run: bool) -> dict[str, Any]:
    """Milliseconds of all linear layers' products, in FP16 and in INT8 with INT32 sums, nothing else around them."""
    device = torch.device("cpu" if dry_run else "cuda")
    shapes = list_products(size, int(batch.removeprefix("batch ")), device)
    found: dict[str, Any] = {"products": len(shapes)}
    with torch.inference_mode():
        half = torch.float32 if dry_run else torch.float16
        for name, dtype in (("fp16", half), ("int8", torch.int8)):
            pairs = [
                (
                    torch.ones(rows, inner, dtype=dtype, device=device),
                    torch.ones(outer, inner, dtype=dtype, device=device),
                )
                for rows, inner, outer in shapes
            ]

            def multiply(pairs: list[tuple[Tensor, Tensor]] = pairs, quantized: bool = dtype == torch.int8) -> None:
                for left, right in pairs:
                    torch._int_mm(left, right.t()) if quantized else left @ right.t()

            found[name] = time_runs(multiply, 0.0 if dry_run else WARM_UP_SECONDS, seconds / 2, device)
    found["int8_gain"] = found["fp16"]["p50"] / found["int8"]["p50"]
    return found


def list_products(size: str, clips: int, device: torch.device) -> list[tuple[int, int, int]]:
    """Rows, inner and outer extent of the folded network's linear layers for a batch, as INT8 kernels take them."""
    network = fold(build_random_network(ModelSize(size), SEED))
    shapes: list[tuple[int, int, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        rows = inputs[0].numel() // layer.in_features
        if rows > 16 and layer.in_features % 8 == 0 and layer.out_features % 8 == 0:
            shapes.append((rows * clips, layer.in_features, layer.out_features))

    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(note)
    network.to(device).eval()
    with torch.inference_mode():
        network(torch.zeros((1, *build_random_network(ModelSize(size), SEED).config.clip_shape), device=device))
    return shapes


def describe(expected: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Signal to noise, largest difference and agreement in the best class."""
    noise = float(np.square(expected - logits).sum())
    return {
        "snr_db": float(10 * np.log10(float(np.square(expected).sum()) / max(noise, 1e-30))),
        "largest_difference": float(np.abs(expected - logits).max()),
        "top1_agreement": float((expected.argmax(axis=1) == logits.argmax(axis=1)).mean()),
    }


def summarize(times: list[float]) -> dict[str, float]:
    """Percentiles and the number of runs."""
    p1, p50, p90, p99 = (float(value) for value in np.percentile(times, (1, 50, 90, 99)))
    return {"p1": p1, "p50": p50, "p90": p90, "p99": p99, "runs": len(times)}


def _time_by_clock(run: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        begun = time.perf_counter()
        run()
        times.append((time.perf_counter() - begun) * 1e3)
    return times
