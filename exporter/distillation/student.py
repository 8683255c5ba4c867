"""The student of a distillation: the teacher's weights in a network that costs less."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ...core.errors import CheckpointError
from ...core.selection import Selection
from ..checkpoint import draw_selectors
from ..dualformer.network import DualFormer
from ..dualformer.selectors import list_selectors
from .schedule import Stage


def make_student(
    teacher: DualFormer, selections: tuple[Selection, ...], frames: int, stride: int, seed: int
) -> DualFormer:
    """The teacher's network with selectors, whose parameters are random, of `seed`; or on fewer frames; or both.

    Raises CheckpointError for a teacher that selects already, SelectionError and OptionError for what its grids cannot
    take.
    """
    config = teacher.config
    if config.selections:
        raise CheckpointError(
            f"the checkpoint selects tokens already ({', '.join(map(str, config.selections))})",
            fix="distil from the network that works on all tokens",
        )
    trained = config.trained_frames or config.frames
    changed = replace(config, selections=selections, frames=frames, stride=stride, trained_frames=trained)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.device("meta"):
        student = DualFormer(changed)
    student.load_state_dict({**state, **draw_selectors(changed, seed)}, strict=True, assign=True)
    return student.eval()


def train_part(student: DualFormer, stage: Stage) -> None:
    """Make the parameters of `stage` trainable, and no others; statistics of normalization stay as they were trained.

    The hard selection has no gradient, so that in the second stage selectors stay as they are.
    """
    selectors = list_selectors(student)
    student.eval().requires_grad_(stage is Stage.NETWORK)
    for selector in selectors:
        selector.train().requires_grad_(stage is Stage.SELECTORS)


def list_fresh(student: nn.Module) -> list[nn.Parameter]:
    """The parameters that the teacher does not have."""
    return [parameter for selector in list_selectors(student) for parameter in selector.parameters()]
