"""The layers of the folded network: what is left of DualFormer's once `folds` has rewritten their parameters.

Tokens are rows of one matrix (tokens * batch, channels), in the order of a `TokenOrder`. There is no training mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..dualformer.network import HEAD_DIM, MLP_RATIO, Grid
from .identities import CHANNELS_PER_GROUP, LAYER_NORM_EPSILON
from .token_order import TokenOrder

MOST_SCORES = 1 << 22  # of attention that PyTorch holds at a time
QKV_SHIFT = 0.25  # added to standardized tokens; small against their spread, so that it costs no precision


def standardize(x: Tensor) -> Tensor:
    """LayerNorm over channels without gain and bias, which are folded into what reads it."""
    return functional.layer_norm(x, (x.shape[-1],), eps=LAYER_NORM_EPSILON)


def rows_to_volume(rows: Tensor, grid: Grid) -> Tensor:
    """Rows in grid order (tokens * batch, channels) -> (batch, channels, frames, height, width), for a convolution.

    Transposing the matrix before it gets its dimensions leaves the compiler a change of strides, not a copy.
    """
    x = rows.reshape(math.prod(grid), -1).t()  # (batch * channels, tokens)
    return x.reshape(-1, rows.shape[-1], *grid)


def volume_to_rows(volume: Tensor) -> Tensor:
    """(batch, channels, frames, height, width) -> rows in grid order (tokens * batch, channels)."""
    x = volume.permute(2, 3, 4, 0, 1)  # (frames, height, width, batch, channels)
    return x.reshape(-1, volume.shape[1])


class StackedLinear(nn.Module):
    """Linear layers without bias as one batched product: (rows, in) -> `parts` times (rows, out).

    Each part is a matrix of its own in memory, which attention reads where it lies; columns of one wide product
    would be copied apart first.
    """

    def __init__(self, parts: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x[None] @ self.weight).unbind(0)


class DepthwiseConv(nn.Conv3d):
    """A depth-wise convolution in groups of two channels that do not mix (see `folds.pair_channels`).

    The compiler pads groups of one channel to two, which copies the whole input.
    """

    def __init__(self, reference: nn.Conv3d) -> None:
        super().__init__(
            reference.in_channels,
            reference.out_channels,
            (reference.kernel_size[0], reference.kernel_size[1], reference.kernel_size[2]),
            stride=(reference.stride[0], reference.stride[1], reference.stride[2]),
            padding=reference.padding,  # type: ignore[arg-type]  # torch's own annotation is wider than it takes
            groups=reference.in_channels // CHANNELS_PER_GROUP,
        )


class ScoreSoftmax(nn.Module):
    """Softmax over keys, computed in float32 in any precision: compilers keep it fused, and half would lose the sum."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores.float().softmax(dim=-1).to(scores.dtype)


class Attend(nn.Module):
    """softmax(q k^T) v on rows, the scale being in q: (queries * sequences, channels) -> the same shape.

    Rows are (token of the sequence, sequence), so all sequences and their heads are views with one stride. `clips` is
    1, or the batch that stands for any when it is traced: a single attention a clip is split for all batches then.
    Traced, it is one product of all queries; run, it takes a few at a time, with the same values in less memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.softmax = ScoreSoftmax()
        self.clips = 1

    def forward(self, query: Tensor, key: Tensor, value: Tensor, queries: int, keys: int) -> Tensor:
        if (
            query.numel() == queries * HEAD_DIM * self.clips
        ):  # one attention is not fused, two are: half the queries each
            queries, key, value = queries // 2, _twice(key, keys), _twice(value, keys)
        q = query.reshape(queries, -1, HEAD_DIM).transpose(0, 1)  # (sequences * heads, queries, head_dim)
        k = key.reshape(keys, -1, HEAD_DIM).permute(1, 2, 0)  # (sequences * heads, head_dim, keys)
        v = value.reshape(keys, -1, HEAD_DIM).transpose(0, 1)  # (sequences * heads, keys, head_dim)
        if torch.compiler.is_exporting():
            out: Tensor = self.softmax(q @ k) @ v
        else:
            at_once = max(1, MOST_SCORES // (len(q) * keys))
            out = torch.cat([self.softmax(part @ k) @ v for part in q.split(at_once, dim=1)], dim=1)
        return out.transpose(0, 1).reshape(query.shape)


def _twice(rows: Tensor, keys: int) -> Tensor:
    """Keys or values for two halves of the queries: (keys * sequences, C) -> (keys, 2 * sequences * C)."""
    return rows.reshape(keys, -1).repeat(1, 2)


class SelfAttention(nn.Module):
    """Attention among the tokens of a sequence (a window, or a clip): residual rows -> what to add to them."""

    def __init__(self, width: int, sequence: int) -> None:
        super().__init__()
        self.sequence = sequence
        self.qkv = StackedLinear(3, width)
        self.attend = Attend()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(standardize(x) + QKV_SHIFT)  # its biases come from the shift
        out: Tensor = self.proj(self.attend(query, key, value, self.sequence, self.sequence))
        return out


class PyramidAttention(nn.Module):
    """Attention of every token to fine and coarse summaries of its clip: residual rows -> what to add to them."""

    def __init__(self, order: TokenOrder, fine: DepthwiseConv, coarse: nn.Sequential | None) -> None:
        super().__init__()
        width = fine.out_channels
        self.order = order
        self.q = nn.Linear(width, width, bias=False)
        self.kv = StackedLinear(2, width)
        self.attend = Attend()
        self.proj = nn.Linear(width, width)
        self.sr = fine
        self.lr = coarse

    def forward(self, x: Tensor) -> Tensor:
        standardized = standardize(x) + QKV_SHIFT  # the query's bias comes from the shift, and convolutions undo it
        summary = standardize(self._summarize(x, standardized))  # (keys * batch, channels)
        key, value = self.kv(summary)
        queries = math.prod(self.order.grid)
        keys = summary.shape[0] * queries // x.shape[0]
        out: Tensor = self.proj(self.attend(self.q(standardized), key, value, queries, keys))
        return out

    def _summarize(self, x: Tensor, standardized: Tensor) -> Tensor:
        """The pyramid's levels, one after the other."""
        if self.order.is_grid:
            volume = rows_to_volume(standardized, self.order.grid)
        else:  # a pass that reorders and standardizes is one kernel; reordering what is standardized makes three
            volume = standardize(self.order.to_clips(x)).permute(0, 4, 1, 2, 3)
        levels = [self.sr] if self.lr is None else [self.sr, self.lr]
        return torch.cat([volume_to_rows(level(volume)) for level in levels])


class StandardizingLinear(nn.Linear):
    """A linear layer of standardized rows: residual rows -> what `Linear` makes of them once they are standardized.

    In FP16 its graph may be LN(x) W^T = (x V^T) / std(x), with the mean taken out in V (see `centre_rows`): the product
    then reads residual rows, and only a number a row, not all rows again, is written for it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(standardize(x))


class FoldedMlp(nn.Module):
    """Standardize, linear, exact GELU, linear: residual rows -> what to add to them."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.fc1 = StandardizingLinear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class FoldedBlock(nn.Module):
    """x + attention(x), then x + mlp(x): rows -> rows, in the order that the block was made for."""

    def __init__(self, order: TokenOrder, attention: SelfAttention | PyramidAttention, mlp: FoldedMlp) -> None:
        super().__init__()
        self.order = order
        self.attn = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out
