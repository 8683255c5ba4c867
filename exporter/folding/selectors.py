"""Token selection on the folded network's rows: one gather keeps the chosen tokens and puts them in the next order.

Selectors score a stage's embedded tokens but gather from what their LayerNorm reads: it is point-wise over tokens, so
doing it again for those that are kept costs less than writing all of them for a gather to read.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..dualformer.network import Grid
from ..dualformer.selectors import SpatialSelector, TemporalSelector, anchor_table, select_best
from .token_order import TokenOrder


class RowSelector(nn.Module):
    """The base of both kinds: rows of `grid`, in grid order (tokens * batch, channels) -> rows of `order`.

    They take the rows to keep some of, and the same rows embedded, to score. With `any_batch` a graph that is traced
    holds no constant of the batch.
    """

    def __init__(self, reference: TemporalSelector | SpatialSelector, grid: Grid, order: TokenOrder) -> None:
        super().__init__()
        self.grid = grid
        self.order = order
        self.score_network = copy.deepcopy(reference.score_network)
        self.any_batch = False

    def in_order(self, *tables: Tensor) -> tuple[Tensor, ...]:
        """Numbers of the kept tokens of a clip, in grid order, as `order` has them."""
        return tuple(self.order.from_grid(table.reshape(-1, 1)).flatten() for table in tables)

    def gather(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """The rows of `tokens` (batch, kept tokens), numbers of a clip's tokens in grid order.

        A compiler fuses a gather with one index a row. For any batch there is an index an element, clip by clip.
        """
        clips, channels = tokens.shape[0], rows.shape[-1]
        if self.any_batch:
            index = tokens.T.long()[..., None].expand(-1, -1, channels)  # (kept tokens, batch, channels)
            return rows.reshape(math.prod(self.grid), clips, channels).gather(0, index).reshape(-1, channels)
        if clips > 1:
            tokens = tokens.T * clips + torch.arange(clips, dtype=torch.int32, device=rows.device)
        return rows.index_select(0, tokens.flatten())


class FoldedTemporalSelector(RowSelector):
    """The best frames of a clip, in their order; returns the rows and which frames they are, int32 (batch, kept)."""

    def forward(self, rows: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
        frames, height, width = self.grid
        x = embedded.reshape(frames, height * width, -1, rows.shape[-1])  # (frames, positions, batch, channels)
        pooled = torch.cat((x.mean(dim=1), x.amax(dim=1)), dim=-1).transpose(0, 1)  # (batch, frames, 2 * channels)
        kept = self.order.grid[0]
        chosen = select_best(self.score_network(pooled), kept)  # (batch, kept)
        frame, position = self.in_order(*_grid_of(kept, height * width, rows.device))
        return self.gather(rows, chosen.index_select(1, frame) * (height * width) + position), chosen


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
        scores = self.score_network(x.reshape(frames * clips, height * width, rows.shape[-1]))
        score_map = scores.reshape(frames * clips, 1, height, width)
        best = functional.avg_pool2d(score_map, self.side, self.stride).flatten(1).argmax(dim=1)
        table = anchor_table(height, width, self.side, self.stride, rows.device)  # (anchors, side * side)
        regions = table.index_select(0, best).to(torch.int32)  # (frames * batch, side * side)
        regions = regions.reshape(frames, clips, self.side**2).transpose(0, 1)
        regions = regions.reshape(clips, frames * self.side**2)  # (batch, kept tokens)
        frame, position = _grid_of(frames, self.side**2, rows.device)
        slots, starts = self.in_order(frame * self.side**2 + position, frame * (height * width))
        return self.gather(rows, regions.index_select(1, slots) + starts)


def _grid_of(frames: int, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The frame and the position of each token of a clip, int32 (frames, positions)."""
    axes = (torch.arange(extent, dtype=torch.int32, device=device) for extent in (frames, positions))
    frame, position = torch.meshgrid(*axes, indexing="ij")
    return frame, position
