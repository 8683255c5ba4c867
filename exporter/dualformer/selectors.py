"""Token selection with fixed counts: which frames of a clip, and which region of each frame, a network goes on with.

Source: "Efficient Video Transformers with Spatial-Temporal Token Selection" (STTS, arXiv 2111.11591), with the
parameter names of its published code. In eval mode the selection is hard and every shape is static; in training mode
it is the expectation under noise, which has a gradient (perturbed_topk.py), until sigma has come down to 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .perturbed_topk import INITIAL_SIGMA, mean_indicators

NORMALIZATION_EPSILON = 1e-5


class ScoreNetwork(nn.Module):
    """Scores tokens by how informative they are: (groups, tokens, width) -> (groups, tokens).

    Half of the channels stay each token's own, the other half is replaced by its mean over the group. A group
    is a clip's frames, or a frame's tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        own, shared = self.in_conv(x).chunk(2, dim=-1)
        x = torch.cat((own, shared.mean(dim=1, keepdim=True).expand_as(own)), dim=-1)
        scores: Tensor = self.out_conv(x)
        return scores.squeeze(-1)


class TemporalSelector(nn.Module):
    """The `kept` best of a clip's frames, in their order; `sigma` is the noise of training, `seeds` each clip's."""

    def __init__(self, width: int, kept: int) -> None:
        super().__init__()
        self.kept = kept
        self.sigma = INITIAL_SIGMA
        self.seeds: tuple[int, ...] = ()
        self.score_network = ScoreNetwork(2 * width)

    def score(self, tokens: Tensor) -> Tensor:
        """Scores (batch, frames) of tokens (batch, frames, height, width, channels)."""
        positions = tokens.flatten(2, 3)  # (batch, frames, positions, channels)
        scores: Tensor = self.score_network(torch.cat((positions.mean(dim=2), positions.amax(dim=2)), dim=-1))
        return scores

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, frames, height, width, channels) -> the kept ones, and which they were.

        The second is int32 (batch, kept), ascending; while training, what is kept without noise.
        """
        scores = self.score(tokens)
        frames = select_best(scores, self.kept)
        if self.training and self.sigma > 0:
            indicators = mean_indicators(normalize_scores(scores.float()), self.kept, self.sigma, seeds=self.seeds)
            return torch.einsum("bkt,bthwc->bkhwc", indicators, tokens), frames
        return gather_groups(tokens, frames), frames


class SpatialSelector(nn.Module):
    """The best square region of each frame, `side` tokens wide; `sigma` is the noise of training, `seeds` each clip's.

    The candidates ("anchors") start at every `stride`-th row and column; the best has the largest mean score.
    """

    def __init__(self, width: int, height: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.stride = anchor_stride(height, side)
        self.sigma = INITIAL_SIGMA
        self.seeds: tuple[int, ...] = ()
        self.score_network = ScoreNetwork(width)

    def score(self, tokens: Tensor) -> Tensor:
        """Scores (batch * frames, anchors) of tokens (batch, frames, height, width, channels); anchors row by row."""
        batch, frames, height, width, channels = tokens.shape
        scores = self.score_network(tokens.reshape(batch * frames, height * width, channels))
        score_map = scores.reshape(batch * frames, 1, height, width)
        return functional.avg_pool2d(score_map, self.side, self.stride).flatten(1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, frames, height, width, channels) -> (batch, frames, side, side, channels)."""
        scores = self.score(tokens)
        if self.training and self.sigma > 0:
            return self._mean_region(tokens, scores)
        batch, frames, height, width, channels = tokens.shape
        best = scores.argmax(dim=1)  # (batch * frames); the first of equal ones
        table = anchor_table(height, width, self.side, self.stride, tokens.device)
        regions = table.index_select(0, best).reshape(batch * frames, self.side**2)
        rows = gather_groups(tokens.reshape(batch * frames, height * width, channels), regions)
        return rows.reshape(batch, frames, self.side, self.side, channels)

    def _mean_region(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """The regions' mean, weighted by how often each is the best one under noise."""
        side, stride = self.side, self.stride
        batch, frames, height, width, _ = tokens.shape
        indicators = mean_indicators(normalize_scores(scores.float()), 1, self.sigma, seeds=self.seeds)
        weights = indicators.reshape(batch, frames, -1, 1, 1, 1)  # (batch, frames, anchors, 1, 1, 1)
        corners = [
            (top, left) for top in range(0, height - side + 1, stride) for left in range(0, width - side + 1, stride)
        ]
        regions = (tokens[:, :, top : top + side, left : left + side] for top, left in corners)
        return torch.stack([weights[:, :, i] * region for i, region in enumerate(regions)]).sum(dim=0)


def select_best(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest scores of each row, ascending: (rows, n) -> int32 (rows, count).

    Among equal scores the earlier win, whatever computes it: ranks come from comparisons with the index as tie breaker,
    not from a sort, whose order of equal values is each backend's own.
    """
    index = torch.arange(scores.shape[1], device=scores.device)
    earlier = index < index.unsqueeze(1)  # [i, j]: j before i
    own, other = scores.unsqueeze(2), scores.unsqueeze(1)  # (rows, n, 1), (rows, 1, n)
    ahead = (other > own) | ((other == own) & earlier)  # [i, j]: j ranks before i
    kept = ahead.sum(dim=2, dtype=torch.int32) < count  # (rows, n)
    kept_until = (kept.unsqueeze(1) & (index <= index.unsqueeze(1))).sum(dim=2, dtype=torch.int32)  # (rows, n)
    slots = torch.arange(count, device=scores.device).unsqueeze(1)
    return (kept_until.unsqueeze(1) <= slots).sum(dim=2, dtype=torch.int32)  # what lies before the kept one


def normalize_scores(scores: Tensor) -> Tensor:
    """Each row of (rows, n) scaled to 0..1, as the published code does; keeps the order, so inference leaves it out."""
    low, high = scores.amin(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True)
    return (scores - low) / (high - low + NORMALIZATION_EPSILON)


def anchor_stride(height: int, side: int) -> int:
    """Tokens between neighbouring anchors: three of them span a height that is much larger than the side."""
    return max((height - side) // 2, 1)


def gather_groups(x: Tensor, chosen: Tensor) -> Tensor:
    """The `chosen` (groups, count) entries of each group of x (groups, entries, ...): (groups, count, ...)."""
    groups, entries, *rest = x.shape
    if groups > 1:  # for a single group the offset is zero, and would stay in the graph
        offsets = torch.arange(groups, dtype=chosen.dtype, device=x.device).unsqueeze(1) * entries
        chosen = chosen + offsets
    gathered = x.reshape(groups * entries, *rest).index_select(0, chosen.flatten())
    return gathered.reshape(groups, chosen.shape[1], *rest)


def set_sigma(network: nn.Module, sigma: float, seeds: Sequence[int] = ()) -> None:
    """Set the training noise of every selector in `network`; 0 makes training select as inference does.

    With `seeds`, one for each clip of the next batch, the noise of a clip follows from its seed alone.
    """
    for number, module in enumerate(list_selectors(network)):
        module.sigma = sigma
        module.seeds = tuple(seed + number for seed in seeds)


def list_selectors(network: nn.Module) -> list[TemporalSelector | SpatialSelector]:
    """The selectors of a network: those of frames, then those of regions."""
    return [module for module in network.modules() if isinstance(module, (TemporalSelector, SpatialSelector))]


def anchor_table(height: int, width: int, side: int, stride: int, device: torch.device) -> Tensor:
    """Positions (anchors, side * side) of each anchor's tokens in a frame, row by row."""
    rows = torch.arange(0, height - side + 1, stride, device=device).unsqueeze(1) + torch.arange(side, device=device)
    columns = torch.arange(0, width - side + 1, stride, device=device).unsqueeze(1) + torch.arange(side, device=device)
    table = rows[:, None, :, None] * width + columns[None, :, None, :]  # (down, across, side, side)
    return table.reshape(-1, side * side)
