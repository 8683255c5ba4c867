"""The proof of precision: what an engine computes in, as its plan shows, against what its graph asks for."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.choices import Precision
from ...core.errors import EngineError
from .plan import EnginePlan

KNOWN_SHARE = 0.5  # of the work must be attributed to layers before the rest says anything
TOLERANCE = 0.005  # of the work whose precision is known: may become another one without being a broken promise


def require_precision(plan: EnginePlan, precision: Precision) -> None:
    """Raise EngineError unless the plan shows that the graph's work in `precision` was compiled as such.

    The work whose layers are known has to hold the share of `precision` that the graph asks for, and no more FP32 than
    it asks for, both within TOLERANCE. A plan that knows too few layers proves nothing, and is refused too:
    `shows_precision` tells before.
    """
    require_asked(plan.model, plan.asked_shares, precision)
    if not shows_precision(plan):
        raise EngineError(
            f"{plan.model}: the plan does not show what the work is done in: {describe_shares(plan.work_shares)}",
            fix="read the plan with another TensorRT release, or measure on the device",
        )
    known = _known_share(plan)
    built = {name: share / known for name, share in plan.work_shares.items() if name != "unattributed"}
    asked = plan.asked_shares
    lost = asked.get(precision.value, 0.0) - built.get(precision.value, 0.0)
    widened = built.get("fp32", 0.0) - asked.get("fp32", 0.0)
    if max(lost, widened) > TOLERANCE:
        raise EngineError(
            f"{plan.model}: the engine does not compute as asked: {describe_shares(asked)} in the graph, "
            f"{describe_shares(plan.work_shares)} built",
            fix="`dualexport plan --layers` names each layer's type; another TensorRT release may honour it, and an "
            "engine in fp16 is always possible",
        )


def require_asked(model: str, asked: Mapping[str, float], precision: Precision) -> None:
    """Raise EngineError for a graph none of whose work is in `precision`; `asked` are its shares by precision.

    A graph without any product is FP32.
    """
    if not asked.get(precision.value) and (asked or precision is not Precision.FP32):
        make = f"make it again with `dualexport {precision.value}`, or " if precision.is_eight_bit else ""
        raise EngineError(
            f"{model} asks for no {precision.value} at all: {describe_shares(asked) or 'it holds no product'}",
            fix=f"{make}give the {precision.value} file of the network",
        )


def shows_precision(plan: EnginePlan) -> bool:
    """True where enough of the work could be given to layers for the plan to prove what the engine computes in."""
    return _known_share(plan) >= KNOWN_SHARE


def _known_share(plan: EnginePlan) -> float:
    return 1.0 - plan.work_shares.get("unattributed", 0.0)


def describe_shares(shares: Mapping[str, float]) -> str:
    """`98.3% fp16, 1.7% int8`."""
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items() if share >= 0.0005)
