"""The parts of a training: input from frames, parameter groups, loss, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.types import Array, Preprocessing

WEIGHT_DECAY = 0.02
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 1.0  # norm of all gradients together
NO_LABEL = -100  # a class that cross-entropy leaves out
LABEL_WEIGHT = 0.5  # of the cross-entropy, beside the distillation
SLOWEST = 0.99  # of the moving average: what it keeps of itself in a step


def normalize(clips: Array, device: torch.device | str = "cpu") -> Tensor:
    """Uint8 (batch, frames, size, size, 3) -> float32 (batch, 3, frames, size, size); float32 input stays."""
    tensor = torch.from_numpy(np.array(clips)).to(device)
    if tensor.dtype != torch.uint8:
        return tensor
    values = Preprocessing()
    mean, std = (torch.tensor(one, device=tensor.device) for one in (values.mean, values.std))
    return ((tensor.float() - mean) / std).permute(0, 4, 1, 2, 3)


def make_optimizer(network: nn.Module, fresh: Iterable[nn.Parameter] = (), scale: float = 1.0) -> torch.optim.AdamW:
    """AdamW without weight decay of gains and biases; `scale` is the `fresh` parameters' part of the learning rate."""
    new = {id(parameter) for parameter in fresh}
    body = [parameter for parameter in network.parameters() if id(parameter) not in new]
    groups = [
        {"params": [one for one in body if one.ndim > 1], "weight_decay": WEIGHT_DECAY, "scale": 1.0},
        {"params": [one for one in body if one.ndim == 1], "weight_decay": 0.0, "scale": 1.0},
        {
            "params": [one for one in network.parameters() if id(one) in new],
            "weight_decay": WEIGHT_DECAY,
            "scale": scale,
        },
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=BETAS)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step against the gradient of `loss`, each group at its scale of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.zero_grad()
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
    optimizer.step()


def follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move the averaged weights and statistics towards the network's after `step` steps; the average begins fast."""
    keep = min(SLOWEST, (step + 1) / (step + 10))
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)


def distillation_loss(logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened classes from the teacher's; of labelled clips, a part of the cross-entropy besides.

    Logits (batch, classes), labels (batch) with NO_LABEL where there is none. Source: "Distilling the Knowledge in a
    Neural Network" (arXiv 1503.02531).
    """
    softened = functional.log_softmax(logits / temperature, dim=1)
    wanted = functional.log_softmax(teacher / temperature, dim=1)
    loss = functional.kl_div(softened, wanted, reduction="batchmean", log_target=True) * temperature**2
    labelled = functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
    return loss + LABEL_WEIGHT * labelled / len(labels)
