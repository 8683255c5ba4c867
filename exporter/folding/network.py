"""DualFormer with its folds applied: the same function in fewer, better-fused layers.

Made by `folding.fold` from the reference network. Modules have the reference's names (`blocks.2.5.attn.q`), without
`backbone.`; what a fold removed is absent, and what it merged has the name of the whole.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn

from ...core.choices import InputType
from ...core.selection import SelectionKind
from ..dualformer.network import PATCH_KERNELS, ClassificationHead, DualFormerConfig, Grid
from ..dualformer.selectors import gather_groups
from .identities import LAYER_NORM_EPSILON, PIXEL_OFFSET
from .layers import DepthwiseConv, FoldedBlock, rows_to_volume, standardize, volume_to_rows
from .selectors import FoldedTemporalSelector
from .token_order import TokenOrder


class PixelEmbed(nn.Module):
    """The first patch embedding as one matrix product over rows of pixels; `norm` follows it.

    Takes float32 (batch, 3, frames, height, width), normalized, or uint8 (batch, frames, height, width, 3), raw RGB;
    returns rows in the order asked for, (tokens * batch, width).
    """

    def __init__(self, width: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.proj = nn.Linear(3 * math.prod(PATCH_KERNELS[0]), width)  # its inputs have the frames' order
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, frames: Tensor, order: TokenOrder) -> Tensor:
        (depth, height, width), (d, h, w) = self.grid, PATCH_KERNELS[0]
        x = frames.to(self.proj.weight.dtype)
        if frames.dtype == torch.uint8:
            x = (x / PIXEL_OFFSET - 1.0).reshape(-1, depth, d, height, h, width, w * 3)
            x = x.permute(1, 3, 5, 0, 2, 4, 6)  # (depth, height, width, batch, d, h, w * 3)
        else:
            x = x.reshape(-1, 3, depth, d, height, h, width, w)
            x = x.permute(2, 4, 6, 0, 1, 3, 5, 7)  # (depth, height, width, batch, 3, d, h, w)
        out: Tensor = self.proj(order.from_grid(x.reshape(-1, 3 * d * h * w)))
        return out


class TokenEmbed(nn.Module):
    """A later patch embedding: rows in grid order -> the next stage's rows, in the order asked for; `norm` follows."""

    def __init__(self, reference: nn.Conv3d, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.proj = copy.deepcopy(reference)
        self.norm = nn.LayerNorm(reference.out_channels, eps=LAYER_NORM_EPSILON)

    def forward(self, rows: Tensor, order: TokenOrder) -> Tensor:
        return order.from_grid(volume_to_rows(self.proj(rows_to_volume(rows, self.grid))))


class FoldedDualFormer(nn.Module):
    """Frames -> logits float32 (batch, classes), in the precision of the parameters.

    Frames are `input_dtype` (batch, *clip_shape): float32 (batch, 3, frames, 224, 224), normalized RGB, or uint8
    (batch, frames, 224, 224, 3), raw RGB.
    """

    def __init__(
        self,
        config: DualFormerConfig,
        input_dtype: torch.dtype,
        patch_embeds: list[PixelEmbed | TokenEmbed],
        blocks: list[list[FoldedBlock]],
        pos_block: list[DepthwiseConv],
    ) -> None:
        super().__init__()
        self.config = config
        self.input_dtype = input_dtype
        self.patch_embeds = nn.ModuleList(patch_embeds)
        self.blocks = nn.ModuleList(nn.ModuleList(stage) for stage in blocks)
        self.pos_block = nn.ModuleList(pos_block)
        self.time_score_predictor = nn.ModuleList()
        self.space_score_predictor = nn.ModuleList()
        self.cls_head = ClassificationHead(config.widths[-1], config.classes)
        self.with_selection = False

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Shape of one clip as the network takes it."""
        return self.config.input_shape(InputType.UINT8 if self.input_dtype == torch.uint8 else InputType.FLOAT32)

    def forward(self, frames: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x, kept = frames, None
        for stage, position in enumerate(self.pos_block):
            embed = cast("PixelEmbed | TokenEmbed", self.patch_embeds[stage])
            blocks = cast("list[FoldedBlock]", list(cast(nn.ModuleList, self.blocks[stage])))
            selectors = self._selectors_before(stage)
            grid = self.config.embedded_grid(stage)
            x = embed(x, TokenOrder.of_grid(grid) if selectors else blocks[0].order)
            for selector in selectors:
                if isinstance(selector, FoldedTemporalSelector):
                    x, chosen = selector(x, embed.norm(x))
                    kept = chosen if kept is None else gather_groups(kept, chosen)
                else:
                    x = selector(x, embed.norm(x))
            x = _run_stage(embed.norm(x), blocks, position)
        grid = self.config.token_grid(len(self.pos_block) - 1)
        tokens = standardize(x).reshape(math.prod(grid), -1, x.shape[-1])  # (tokens, batch, channels)
        pooled = tokens.float().mean(dim=0)
        logits: Tensor = self.cls_head(pooled.to(x.dtype)).float()
        return (logits, kept) if self.with_selection and kept is not None else logits

    def _selectors_before(self, stage: int) -> list[nn.Module]:
        """The selectors between a stage's embedding and its blocks: of frames, then of regions."""
        kinds = {SelectionKind.TIME: self.time_score_predictor, SelectionKind.SPACE: self.space_score_predictor}
        found = []
        for kind, selectors in kinds.items():
            stages = [selection.stage for selection in self.config.selections if selection.kind is kind]
            found += [selector for at, selector in zip(stages, selectors, strict=True) if at == stage]
        return found


def _run_stage(x: Tensor, blocks: list[FoldedBlock], position: nn.Module) -> Tensor:
    """One stage's blocks: rows in the first block's order -> rows in grid order."""
    order = blocks[0].order
    x = blocks[0](x)
    x = volume_to_rows(position(rows_to_volume(order.to_grid(x), order.grid)))
    order = TokenOrder.of_grid(order.grid)
    for block in blocks[1:]:
        x = block.order.from_grid(order.to_grid(x)) if block.order != order else x
        order = block.order
        x = block(x)
    return order.to_grid(x)
