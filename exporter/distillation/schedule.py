"""The course of a distillation: which parameters are trained, at which rate, and under how much noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from ..dualformer.perturbed_topk import sigma_at

WARM_UP = 0.02  # of a stretch
FIRST = 0.05  # of the rate, at the first step


class Stage(str, Enum):
    """The part of the student that is trained."""

    SELECTORS = "selectors"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Phase:
    """One moment of the course; `sigma` is the noise of the selection, 0 where it is hard."""

    stage: Stage
    rate: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Two stages, each with a learning rate that falls along a cosine.

    First, for the share `selecting` of the run, selectors alone learn under noise that falls to zero; then the network
    gets used to the hard selection.
    """

    selecting: float
    selector_rate: float
    network_rate: float

    def at(self, done: float) -> Phase:
        """The phase in which `done`, from 0 to 1, of the run is done."""
        if done < self.selecting:
            share = done / self.selecting
            return Phase(Stage.SELECTORS, cosine_rate(self.selector_rate, share), sigma_at(share, 1.0))
        share = (done - self.selecting) / (1 - self.selecting) if self.selecting < 1 else 1.0
        return Phase(Stage.NETWORK, cosine_rate(self.network_rate, share), 0.0)


def cosine_rate(rate: float, share: float, warm_up: float = WARM_UP) -> float:
    """The learning rate at `share`, 0 to 1, of a stretch: it rises for `warm_up`, and falls along a cosine to 0."""
    warming = min(1.0, share / warm_up + FIRST)
    return rate * warming * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)))
