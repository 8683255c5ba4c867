"""The verdict on 8 bits: what the plans of the FP16 and of the INT8 or FP8 graph say, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.choices import DeviceName, Precision
from .devices import Device, estimate
from .plan import EnginePlan

GAIN_WORTH_HAVING = 1.05
GAIN_WORTH_TELLING = 1.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """The FP16 plan's estimated time over the 8-bit plan's on a device, and sentences that say what to make of it."""

    device: DeviceName
    speedup: float
    sentences: tuple[str, ...]


def judge(fp16: EnginePlan, eight: EnginePlan, device: Device) -> Verdict:
    """Judge from the plans that one compiler made of both whether an INT8 or FP8 engine is worth building."""
    before, after = estimate(fp16, device).total_ms, estimate(eight, device).total_ms
    precision = Precision.FP8 if Precision.FP8.value in eight.asked_shares else Precision.INT8
    word = precision.value.upper()
    name, speedup = device.name.value, before / after
    figures = f"estimated {speedup:.2f}x as fast as FP16, {after:.2f} ms instead of {before:.2f}"
    if speedup >= GAIN_WORTH_HAVING:
        answer = f"{word} is worth it on {name}: {figures}"
    elif speedup >= GAIN_WORTH_TELLING:
        answer = f"{word} gains little on {name}: {figures}"
    else:
        answer = f"{word} is not worth it on {name} with this compiler: keep FP16 ({figures})"
    sentences = [
        f"{answer}, by {device.bandwidth_gb_s:g} GB/s and {device.fp16_tops:g} dense TOPS in FP16, "
        f"{device.peak_tops(precision):g} in {word}, at their peaks.",
        f"Based on the plans: {eight.moved_bytes / 1e6:.0f} MB moved instead of {fp16.moved_bytes / 1e6:.0f}, "
        f"{eight.weight_bytes / 1e6:.0f} MB of weights instead of {fp16.weight_bytes / 1e6:.0f}, "
        f"{len(eight.layers) - len(fp16.layers):+d} layers. No engine was run.",
    ]
    if "RTX" in eight.compiler or eight.source == "build log":
        sentences.append(
            f"TensorRT for RTX, which plans where there is no GPU, rescales {word} products in layers of their own: "
            "its plan is an upper bound for TensorRT's. Measure on the device."
        )
    return Verdict(device.name, speedup, tuple(sentences))
