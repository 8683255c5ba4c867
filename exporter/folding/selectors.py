"""Token selection on the folded network's rows: one gather keeps the chosen tokens and puts them in the next order.

Selectors score a stage's embedded tokens but gather from what their LayerNorm reads: it is point-wise over tokens, so
doing it again for those that are kept costs less than writing all of them for a gather to read.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..dualformer.network import Grid
from ..dualformer.selectors import SpatialSelector, TemporalSelector, anchor_table, select_best
from .token_order import TokenOrder


class RowSelector(nn.Module):
    """The base of both kinds: rows of `grid`, in grid order (tokens * batch, channels) -> rows of `order`.

    They take the rows to keep some of, and the same rows embedded, to score.
    """

    def __init__(self, reference: TemporalSelector | SpatialSelector, grid: Grid, order: TokenOrder) -> None:
        super().__init__()
        self.grid = grid
        self.order = order
        self.score_network = copy.deepcopy(reference.score_network)

    def gather(self, rows: Tensor, chosen: Tensor, slots: Tensor, starts: Tensor, step: int) -> Tensor:
        """The row `starts` + `step` * `chosen`[`slots`] of each kept token; both tables are in grid order."""
        slots, starts = (self.order.from_grid(table.reshape(-1, 1)).flatten() for table in (slots, starts))
        return rows.index_select(0, chosen.flatten().index_select(0, slots) * step + starts)


class FoldedTemporalSelector(RowSelector):
    """The best frames of a clip, in their order; returns the rows and which frames they are, int32 (batch, kept)."""

    def forward(self, rows: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
        frames, height, width = self.grid
        x = embedded.reshape(frames, height * width, -1, rows.shape[-1])  # (frames, positions, batch, channels)
        pooled = torch.cat((x.mean(dim=1), x.amax(dim=1)), dim=-1).transpose(0, 1)  # (batch, frames, 2 * channels)
        kept, clips = self.order.grid[0], x.shape[2]
        chosen = select_best(self.score_network(pooled), kept)  # (batch, kept)
        frame, position, clip = _grid_of(kept, height * width, clips, rows.device)
        slots, starts = clip * kept + frame, position * clips + clip
        return self.gather(rows, chosen, slots, starts, height * width * clips), chosen


class FoldedSpatialSelector(RowSelector):
    """The best square region of each frame."""

    def __init__(self, reference: SpatialSelector, grid: Grid, order: TokenOrder) -> None:
        super().__init__(reference, grid, order)
        self.side = reference.side
        self.stride = reference.stride

    def forward(self, rows: Tensor, embedded: Tensor) -> Tensor:
        frames, height, width = self.grid
        x = embedded.reshape(frames, height * width, -1, rows.shape[-1]).transpose(1, 2)
        clips = x.shape[1]
        scores = self.score_network(x.reshape(frames * clips, height * width, -1))
        score_map = scores.reshape(frames * clips, 1, height, width)
        best = functional.avg_pool2d(score_map, self.side, self.stride).flatten(1).argmax(dim=1)
        table = anchor_table(height, width, self.side, self.stride, rows.device)  # (anchors, side * side)
        regions = table.index_select(0, best).to(torch.int32)  # (frames * batch, side * side)
        frame, position, clip = _grid_of(frames, self.side**2, clips, rows.device)
        slots = (frame * clips + clip) * self.side**2 + position
        starts = frame * (height * width * clips) + clip
        return self.gather(rows, regions, slots, starts, clips)


def _grid_of(frames: int, positions: int, clips: int, device: torch.device) -> tuple[Tensor, ...]:
    """The frame, position and clip of each row in grid order, int32 (frames, positions, clips)."""
    axes = (torch.arange(extent, dtype=torch.int32, device=device) for extent in (frames, positions, clips))
    return torch.meshgrid(*axes, indexing="ij")
