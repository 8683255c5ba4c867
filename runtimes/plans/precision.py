"""Holds what an engine computes in, as its plan shows, against what was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.choices import Precision
from ...core.errors import EngineError
from .plan import EnginePlan

KNOWN_SHARE = 0.5  # of the work must be attributed to layers before the rest says anything
TOLERATED_SHARE = 0.02  # of the work may be wider than asked: a layer or two that the graph itself keeps in FP32


def require_precision(plan: EnginePlan, asked: Precision, int8_asked: float = 0.0) -> None:
    """Raise EngineError when the plan shows that the engine does not compute in `asked`; `shows_precision` says whether
    it can show that.

    FP16 asks for the work in half precision or narrower, but for TOLERATED_SHARE. INT8 asks for the share of it that
    the graph quantizes, `int8_asked`; the rest may stay in FP16.
    """
    shares = plan.work_shares
    known = _known_share(plan)
    if asked is Precision.FP32:
        return
    narrow = (shares.get("fp16", 0.0) + shares.get("int8", 0.0)) / known
    int8 = shares.get("int8", 0.0) / known
    if narrow < 1.0 - TOLERATED_SHARE or (asked is Precision.INT8 and int8 < max(int8_asked - TOLERATED_SHARE, 1e-6)):
        wanted = f"{int8_asked:.1%} int8" if asked is Precision.INT8 else "fp16"
        raise EngineError(
            f"{plan.model}: the engine does not compute as asked: {wanted} wanted, {describe_shares(shares)} built",
            fix="`dualexport plan --layers` names each layer's type; another TensorRT release may honour it, and an "
            "engine in fp16 is always possible",
        )


def shows_precision(plan: EnginePlan) -> bool:
    """Whether enough of the work could be given to layers for the plan to prove what the engine computes in."""
    return _known_share(plan) >= KNOWN_SHARE


def _known_share(plan: EnginePlan) -> float:
    return 1.0 - plan.work_shares.get("unattributed", 0.0)


def describe_shares(shares: Mapping[str, float]) -> str:
    """`98.3% fp16, 1.7% int8`."""
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items() if share >= 0.0005)
