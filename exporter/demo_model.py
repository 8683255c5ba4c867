"""The small trained network that comes with dualexport: where its files lie. docs/demo-model.md is its card."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import CheckpointError
from ..core.manifest import DEMO
from ..core.selection import Selection

FOLDER = Path(__file__).parent / "weights"
TRAINED_SELECTION = "T0:0.5"


def find_demo_weights(selections: tuple[Selection, ...], untrained_selector: bool = False) -> Path:
    """The .safetensors file of the demo model, trained with or without token selection.

    Raises CheckpointError for selections that it was not trained with, unless their selectors are to be random.
    """
    if not selections or untrained_selector:
        return FOLDER / f"dualformer-{DEMO}.safetensors"
    asked = ",".join(map(str, selections))
    if asked != TRAINED_SELECTION:
        raise CheckpointError(
            f"the demo model was trained with --stts {TRAINED_SELECTION}, not with {asked}",
            fix=f"use --stts {TRAINED_SELECTION}, distil it with `dualexport distill`, or pass --untrained-selector",
        )
    return FOLDER / f"dualformer-{DEMO}-{TRAINED_SELECTION.replace(':', '_')}.safetensors"


def read_demo_labels() -> tuple[str, ...]:
    """The names of the demo model's classes, in order."""
    return tuple((FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines())
