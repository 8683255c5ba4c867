"""The verdict on INT8: what the plans of the FP16 and the INT8 graph say, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.choices import DeviceName
from .devices import Device, estimate
from .plan import EnginePlan

GAIN_WORTH_HAVING = 1.05
GAIN_WORTH_TELLING = 1.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """The FP16 plan's estimated time over the INT8 plan's on a device, and sentences that say what to make of it."""

    device: DeviceName
    speedup: float
    sentences: tuple[str, ...]


def judge(fp16: EnginePlan, int8: EnginePlan, device: Device) -> Verdict:
    """Judge from the plans that one compiler made of both whether the INT8 engine is worth building for `device`."""
    before, after = estimate(fp16, device).total_ms, estimate(int8, device).total_ms
    name, speedup = device.name.value, before / after
    figures = f"estimated {speedup:.2f}x as fast as FP16, {after:.2f} ms instead of {before:.2f}"
    if speedup >= GAIN_WORTH_HAVING:
        answer = f"INT8 is worth it on {name}: {figures}"
    elif speedup >= GAIN_WORTH_TELLING:
        answer = f"INT8 gains little on {name}: {figures}"
    else:
        answer = f"INT8 is not worth it on {name} with this compiler: keep FP16 ({figures})"
    sentences = [
        f"{answer}, by {device.bandwidth_gb_s:g} GB/s and {device.fp16_tops:g} dense TOPS in FP16, "
        f"{device.int8_tops:g} in INT8, at their peaks.",
        f"Based on the plans: {int8.moved_bytes / 1e6:.0f} MB moved instead of {fp16.moved_bytes / 1e6:.0f}, "
        f"{int8.weight_bytes / 1e6:.0f} MB of weights instead of {fp16.weight_bytes / 1e6:.0f}, "
        f"{len(int8.layers) - len(fp16.layers):+d} layers. No engine was run.",
    ]
    if "RTX" in int8.compiler or int8.source == "build log":
        sentences.append(
            "TensorRT for RTX, which plans where there is no GPU, rescales INT8 products in layers of their own: its "
            "INT8 plan is an upper bound for TensorRT's. Measure on the device."
        )
    return Verdict(device.name, speedup, tuple(sentences))
