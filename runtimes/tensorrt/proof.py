"""An engine whose precision its plan does not prove: kept with a warning, or refused, but never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...core.choices import Precision
from ...core.errors import EngineError
from ...core.files import staged_path
from ...core.versions import is_older
from ..plans.plan import EnginePlan
from ..plans.precision import require_precision
from .library import is_for_rtx

DESCRIBED_WELL = "11.0"  # the first TensorRT that lists the weights of every layer, by which its type is certain
UNPROVEN = ".unproven"  # added to the name of an engine that is refused


def describes_roughly(version: str) -> bool:
    """True for TensorRT 10, which may describe a layer as wider than it is."""
    return not is_for_rtx() and is_older(version, DESCRIBED_WELL)


def prove_precision(
    plan: EnginePlan, precision: Precision, serialized: Any, path: Path, *, strict: bool
) -> tuple[str, ...]:
    """Hold the engine that is to be at `path` against the precision that was asked for.

    Returns what a user should read: nothing of a proven one. Else the plan is written beside the engine, and with
    `strict` EngineError is raised after the engine was kept as PATH.unproven, since building it took minutes.
    """
    try:
        require_precision(plan, precision)
    except EngineError as doubt:
        plan_path = _write_plan(plan, path)
        if strict:
            kept = _keep(serialized, path)
            raise EngineError(
                f"{doubt} (the engine is kept as {kept.name}, its plan beside it)", fix=doubt.fix
            ) from doubt
        return (
            f"{doubt}. {plan.compiler} may describe layers as wider than they are, so the engine is kept, and its plan "
            f"in {plan_path.name}; `trt --strict` refuses it",
        )
    return ()


def _write_plan(plan: EnginePlan, engine: Path) -> Path:
    path = engine.with_suffix(".plan.json")
    with staged_path(path) as staged:
        staged.write_text(json.dumps(plan.document(), indent=1), encoding="utf-8")
    return path


def _keep(serialized: Any, engine: Path) -> Path:
    path = engine.with_name(engine.name + UNPROVEN)
    with staged_path(path) as staged:
        staged.write_bytes(memoryview(serialized))
    return path
