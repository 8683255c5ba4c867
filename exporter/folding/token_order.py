"""In which order a stage keeps its tokens: as rows of one matrix [tokens * batch, channels].

Everything in DualFormer but its convolutions is point-wise over tokens or indifferent to their order, so a stage may
keep its tokens in whatever order its attention reads best, and residual additions, which then have the shape of the
matrix product before them, fuse into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..dualformer.network import Grid


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """Rows in the order (position in the window, window, clip): the same position of all windows lies together.

    With windows (and clips, which are one more direction of windows) next to the channels, the sequences
    window x clip x head have one stride, head_dim, just as the heads of one big sequence have, so that a compiler's
    fused attention reads and writes local windows where they lie. A window of one token, or of the whole grid, is
    the grid's own order (frame, height, width, clip).
    """

    grid: Grid
    window: Grid

    @classmethod
    def of_grid(cls, grid: Grid) -> TokenOrder:
        """The order (frame, height, width, clip)."""
        return cls(grid, grid)

    @property
    def window_tokens(self) -> int:
        """Tokens of one window."""
        return math.prod(self.window)

    @property
    def _windows(self) -> Grid:
        (frames, height, width), (d, h, w) = self.grid, self.window
        return (frames // d, height // h, width // w)

    @property
    def is_grid(self) -> bool:
        """True for the order (frame, height, width, clip)."""
        return self.window == self.grid or self.window_tokens == 1

    def from_grid(self, rows: Tensor) -> Tensor:
        """Rows (frame, height, width, clip) -> rows in this order; both (tokens * batch, channels)."""
        if self.is_grid:
            return rows
        (d, h, w), (n_d, n_h, n_w) = self.window, self._windows
        x = rows.reshape(n_d, d, n_h, h, n_w, w, -1, rows.shape[-1])
        return x.permute(1, 3, 5, 0, 2, 4, 6, 7).reshape(rows.shape)  # (d, h, w, n_d, n_h, n_w, batch, channels)

    def to_grid(self, rows: Tensor) -> Tensor:
        """Rows in this order -> rows (frame, height, width, clip); both (tokens * batch, channels)."""
        if self.is_grid:
            return rows
        (d, h, w), (n_d, n_h, n_w) = self.window, self._windows
        x = rows.reshape(d, h, w, n_d, n_h, n_w, -1, rows.shape[-1])
        return x.permute(3, 0, 4, 1, 5, 2, 6, 7).reshape(rows.shape)  # (n_d, d, n_h, h, n_w, w, batch, channels)

    def to_clips(self, rows: Tensor) -> Tensor:
        """Rows in this order (tokens * batch, channels) -> (batch, frames, height, width, channels)."""
        (d, h, w), (n_d, n_h, n_w) = self.window, self._windows
        x = rows.reshape(d, h, w, n_d, n_h, n_w, -1, rows.shape[-1])
        x = x.permute(6, 3, 0, 4, 1, 5, 2, 7)  # (batch, n_d, d, n_h, h, n_w, w, channels)
        return x.reshape(-1, *self.grid, rows.shape[-1])
