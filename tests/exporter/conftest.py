"""Networks none of whose parameters or statistics is at its trivial starting value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from dualexport.contracts import ModelSize
from dualexport.exporter.dualformer import CONFIGS, DualFormer
from torch import nn


@pytest.fixture(scope="session")
def make_network() -> Callable[[int], DualFormer]:
    """Makes the nano network for clips of so many frames."""

    def make(frames: int) -> DualFormer:
        torch.manual_seed(5)
        network = DualFormer(replace(CONFIGS[ModelSize.N], frames=frames)).eval()
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                nn.init.uniform_(value, 0.5, 2.0)
            elif value.dim() == 1:
                nn.init.normal_(value, 1.0 if name.endswith("weight") else 0.0, 0.2)
            elif value.dim() > 1:
                nn.init.normal_(value, 0.0, math.prod(value.shape[1:]) ** -0.5)
        return network

    return make
