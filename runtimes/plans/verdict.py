"""Whether INT8 is worth it: what the plans of the FP16 and the INT8 graph say, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.choices import Precision
from ...core.errors import PlanError
from .devices import Device, estimate
from .plan import EnginePlan

GAIN_WORTH_HAVING = 1.05
SHORTFALL = 0.005  # of the multiply-accumulates: what may be unattributed without being taken for a broken promise


@dataclass(frozen=True, slots=True)
class Verdict:
    """The FP16 plan's estimated time over the INT8 plan's, and the sentences that say what to make of it."""

    speedup: float
    sentences: tuple[str, ...]


def require_precision(plan: EnginePlan, precision: Precision) -> None:
    """Raise PlanError when less of the work became `precision` than the graph asks for, or the graph asks for none."""
    asked, got = plan.asked_shares.get(precision.value, 0.0), plan.work_shares.get(precision.value, 0.0)
    if asked == 0.0:
        raise PlanError(
            f"{plan.model} asks for no {precision.value} at all", fix=f"give the {precision.value} file of the network"
        )
    if got < asked - SHORTFALL:
        raise PlanError(
            f"{plan.model}: {got:.1%} of the multiply-accumulates became {precision.value}, the graph asks for "
            f"{asked:.1%}",
            fix="look at `dualexport plan --layers` for the layers that did not, and report this TensorRT version",
        )


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
