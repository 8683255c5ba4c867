"""The verdict on INT8: what the plans of the FP16 and the INT8 graph say, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from .devices import Device, estimate
from .plan import EnginePlan

GAIN_WORTH_HAVING = 1.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """The FP16 plan's estimated time over the INT8 plan's, and the sentences that say what to make of it."""

    speedup: float
    sentences: tuple[str, ...]


def judge(fp16: EnginePlan, int8: EnginePlan, device: Device) -> Verdict:
    """Whether the INT8 engine is worth building for `device`, from the plans that the same compiler made of both."""
    before, after = estimate(fp16, device).total_ms, estimate(int8, device).total_ms
    speedup = before / after
    name = device.name.value
    extra = len(int8.layers) - len(fp16.layers)
    if speedup >= GAIN_WORTH_HAVING:
        answer = f"INT8 is estimated {speedup:.2f}x as fast as FP16 on {name}"
    else:
        answer = f"INT8 is not worth it on {name} with this compiler: keep FP16 (estimated {speedup:.2f}x as fast)"
    sentences = [
        answer,
        f"Based on the plans: {int8.moved_bytes / 1e6:.0f} MB moved instead of {fp16.moved_bytes / 1e6:.0f}, "
        f"{int8.weight_bytes / 1e6:.0f} MB of weights instead of {fp16.weight_bytes / 1e6:.0f}, {extra:+d} layers; "
        f"{before:.2f} ms estimated in FP16, {after:.2f} ms in INT8. No engine was run.",
    ]
    if "RTX" in int8.compiler or int8.source == "build log":
        sentences.append(
            "TensorRT for RTX, which plans where there is no GPU, accelerates only weight-only INT8 and rescales in "
            "layers of their own: its INT8 plan is an upper bound for TensorRT's. Measure on the device."
        )
    return Verdict(speedup, tuple(sentences))
