"""A top-k with a gradient: the expectation of the hard selection when its scores are disturbed by noise.

Source: "Learning with Differentiable Perturbed Optimizers" (arXiv 2002.08676), and its use for selecting patches in
"Differentiable Patch Selection for Image Recognition" (arXiv 2104.03059). For training only; never exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SAMPLES = 500
INITIAL_SIGMA = 0.05  # of scores that are normalized to 0..1


def sigma_at(step: float, steps: float, initial: float = INITIAL_SIGMA) -> float:
    """The noise's standard deviation at `step` of `steps`: from `initial` at step 0 linearly down to 0 at the end."""
    return initial * max(1.0 - step / steps, 0.0)


def mean_indicators(
    scores: Tensor, count: int, sigma: float, samples: int = SAMPLES, seeds: Sequence[int] = ()
) -> Tensor:
    """Expected one-hot indicators of the `count` best of each row: (rows, n) -> (rows, count, n).

    Each row of the result is a distribution over n: where the first, second, ... kept one lies, in the scores' order of
    index. A Monte-Carlo mean over `samples` Gaussian disturbances of standard deviation `sigma`, which is above 0.
    With `seeds`, one for each equal part of the rows, a part's noise is that of its seed, whatever else is in the rows.
    """
    noise = _draw_noise(scores, samples, seeds)
    indicators: Tensor = _MeanIndicators.apply(scores, count, sigma, noise)  # type: ignore[no-untyped-call]
    return indicators


def _draw_noise(scores: Tensor, samples: int, seeds: Sequence[int]) -> Tensor:
    """Standard normal noise: (rows, samples, n)."""
    rows, width = scores.shape
    if not seeds:
        return torch.randn(rows, samples, width, dtype=scores.dtype, device=scores.device)
    part = (rows // len(seeds), samples, width)
    generators = (torch.Generator(scores.device).manual_seed(seed) for seed in seeds)
    drawn = [torch.randn(part, dtype=scores.dtype, device=scores.device, generator=one) for one in generators]
    return torch.cat(drawn)


class _MeanIndicators(torch.autograd.Function):
    """With z standard normal noise and Y the indicators of s + sigma z: value E[Y], Jacobian E[Y z^T] / sigma."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, count: int, sigma: float, noise: Tensor) -> Tensor:
        disturbed = scores.unsqueeze(1) + sigma * noise  # (rows, samples, n)
        chosen = disturbed.topk(count, dim=-1).indices.sort(dim=-1).values  # (rows, samples, count)
        ctx.save_for_backward(noise, chosen)
        ctx.sigma = sigma
        return functional.one_hot(chosen, scores.shape[1]).to(scores.dtype).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        noise, chosen = ctx.saved_tensors
        samples = noise.shape[1]
        per_sample = gradient.gather(2, chosen.transpose(1, 2)).sum(dim=1)  # (rows, samples): <Y, gradient>
        mean = torch.einsum("rs,rsn->rn", per_sample, noise) / samples
        return mean / ctx.sigma, None, None, None
