"""DualFormer in plain PyTorch, with the parameter names of the published checkpoints.

Source: "DualFormer: Local-Global Stratified Transformer for Efficient Video Recognition" (arXiv 2112.04674).
This network is the reference that every exported artifact is compared with; it is never rewritten in place.
Tokens travel channels-last, (batch, frames, height, width, channels), as the linear layers read them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ...core.selection import Grid as Grid
from ...core.selection import SelectionKind
from .architecture import CONFIGS as CONFIGS
from .architecture import DualFormerConfig as DualFormerConfig
from .selectors import SpatialSelector, TemporalSelector, gather_groups
from .token_grids import COARSE_STAGES, FINE_STAGES, coarse_kernels, fine_kernel, local_window
from .token_grids import IMAGE_SIZE as IMAGE_SIZE
from .token_grids import PATCH_KERNELS as PATCH_KERNELS

HEAD_DIM = 32
SCALE: float = HEAD_DIM**-0.5
MLP_RATIO = 4


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (..., heads, tokens, head_dim); the scale goes to q, the smallest of the four."""
    return functional.scaled_dot_product_attention(query * SCALE, key, value, scale=1.0)


class PatchEmbed(nn.Module):
    """Non-overlapping convolution, then LayerNorm over channels: (B, D, H, W, in) -> (B, D', H', W', out)."""

    def __init__(self, in_channels: int, width: int, kernel: Grid) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, width, kernel, stride=kernel)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x.permute(0, 4, 1, 2, 3))  # (B, out, D', H', W')
        out: Tensor = self.norm(x.permute(0, 2, 3, 4, 1))
        return out


class LocalAttention(nn.Module):
    """LW-MSA (section 3.2): self-attention inside non-overlapping windows; no parameter depends on the window."""

    def __init__(self, width: int, window: Grid) -> None:
        super().__init__()
        self.window = window
        self.heads = width // HEAD_DIM
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, height, width, channels = x.shape
        d, h, w = self.window
        x = x.reshape(batch, frames // d, d, height // h, h, width // w, w, channels)
        x = x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, d * h * w, channels)  # (windows, tokens, channels)
        qkv = self.qkv(x).reshape(-1, d * h * w, 3, self.heads, HEAD_DIM).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (windows, heads, tokens, head_dim)
        x = attend(query, key, value).transpose(1, 2)  # (windows, tokens, heads, head_dim)
        x = self.proj(x.reshape(-1, d * h * w, channels))
        x = x.reshape(batch, frames // d, height // h, width // w, d, h, w, channels)
        return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, frames, height, width, channels)


class GlobalAttention(nn.Module):
    """GP-MSA (section 3.3): every token attends to a pyramid of fine and coarse summaries of all tokens.

    `sr` makes the fine level and `lr` the coarse one; either is absent where the stage has no such level, and with
    neither the keys and values are the tokens themselves. Their kernels are those of the grid trained on; on a smaller
    grid fewer keys come out, and a remainder that the kernel does not cover is in none of them.
    """

    def __init__(self, width: int, trained: Grid, *, has_fine: bool, has_coarse: bool) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.sr = _depthwise(width, fine_kernel(trained)) if has_fine else None
        self.norm = nn.LayerNorm(width) if has_fine else None
        self.lr = None
        if has_coarse:
            first, second = coarse_kernels(trained)
            self.lr = nn.Sequential(
                _depthwise(width, first), nn.BatchNorm3d(width), nn.ReLU(), _depthwise(width, second)
            )

    def forward(self, x: Tensor) -> Tensor:
        batch, *grid, channels = x.shape
        query = self._split_heads(self.q(x).flatten(1, 3), 1)[0]
        key, value = self._split_heads(self.kv(self._summarize(x)), 2)
        out = attend(query, key, value).transpose(1, 2)  # (batch, tokens, heads, head_dim)
        projected: Tensor = self.proj(out.reshape(batch, *grid, channels))
        return projected

    def _summarize(self, x: Tensor) -> Tensor:
        """The tokens that keys and values are made of: (batch, keys, channels)."""
        if self.sr is None or self.norm is None:
            return x.flatten(1, 3)
        x = x.permute(0, 4, 1, 2, 3)  # (batch, channels, frames, height, width)
        levels = [self.sr(x).flatten(2)]  # (batch, channels, tokens)
        if self.lr is not None:
            levels.append(self.lr(x).flatten(2))
        summary: Tensor = self.norm(torch.cat(levels, dim=2).transpose(1, 2))
        return summary

    def _split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch, tokens, parts * channels) -> `parts` times (batch, heads, tokens, head_dim)."""
        x = x.reshape(x.shape[0], x.shape[1], parts, self.heads, HEAD_DIM)
        return x.permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block around a local or a global attention."""

    def __init__(self, width: int, attention: LocalAttention | GlobalAttention) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PositionEncoding(nn.Module):
    """Conditional position encoding: a depth-wise 3x3x3 convolution plus its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv3d(width, width, 3, padding=1, groups=width))

    def forward(self, x: Tensor) -> Tensor:
        encoding: Tensor = self.proj(x.permute(0, 4, 1, 2, 3))
        return x + encoding.permute(0, 2, 3, 4, 1)


class Backbone(nn.Module):
    """Four stages of alternating local and global blocks: (B, 3, D, H, W) -> mean over tokens (B, channels).

    Where the configuration selects tokens, selectors stand between a stage's embedding and its blocks; frames first.
    """

    def __init__(self, config: DualFormerConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (3, *config.widths[:-1])
        self.patch_embeds = nn.ModuleList(
            PatchEmbed(in_channels, width, kernel)
            for in_channels, width, kernel in zip(inputs, config.widths, PATCH_KERNELS, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(width, _attention(config, stage, index)) for index in range(config.depths[stage]))
            for stage, width in enumerate(config.widths)
        )
        self.pos_block = nn.ModuleList(PositionEncoding(width) for width in config.widths)
        self.norm = nn.LayerNorm(config.widths[-1])
        self.time_score_predictor = nn.ModuleList(
            TemporalSelector(config.widths[selection.stage], selection.apply(config.embedded_grid(selection.stage))[0])
            for selection in config.selections
            if selection.kind is SelectionKind.TIME
        )
        self.space_score_predictor = nn.ModuleList(
            SpatialSelector(
                config.widths[selection.stage],
                config.embedded_grid(selection.stage)[1],
                config.token_grid(selection.stage)[1],
            )
            for selection in config.selections
            if selection.kind is SelectionKind.SPACE
        )

    def forward(self, clip: Tensor) -> Tensor:
        return self.pool_selected(clip)[0]

    def pool_selected(self, clip: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean over tokens (B, channels), and which token frames they are of: int32 (B, kept), or None for all."""
        x, kept = clip.permute(0, 2, 3, 4, 1), None
        stages = zip(self.patch_embeds, self.blocks, self.pos_block, strict=True)
        for stage, (embed, blocks, position) in enumerate(stages):
            assert isinstance(blocks, nn.ModuleList)
            x = embed(x)
            for selector in self.selectors_before(stage):
                if isinstance(selector, TemporalSelector):
                    x, frames = selector(x)
                    kept = frames if kept is None else gather_groups(kept, frames)
                else:
                    x = selector(x)
            x = position(blocks[0](x))
            for block in blocks[1:]:
                x = block(x)
        return self.norm(x).mean(dim=(1, 2, 3)), kept

    def selectors_before(self, stage: int) -> Iterator[nn.Module]:
        """The selectors that stand before the blocks of `stage`: of frames, then of regions."""
        kinds = {SelectionKind.TIME: self.time_score_predictor, SelectionKind.SPACE: self.space_score_predictor}
        for kind, selectors in kinds.items():
            stages = [selection.stage for selection in self.config.selections if selection.kind is kind]
            if stage in stages:
                yield selectors[stages.index(stage)]


class ClassificationHead(nn.Module):
    """One linear layer, named as the published recognizer names it."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc_cls(x)
        return out


class DualFormer(nn.Module):
    """clip float32 (batch, 3, frames, 224, 224), normalized RGB -> logits float32 (batch, classes)."""

    def __init__(self, config: DualFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.cls_head = ClassificationHead(config.widths[-1], config.classes)

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.cls_head(self.backbone(clip))
        return logits


class SelectionOutputs(nn.Module):
    """A network that selects frames, with what it selected as a second output.

    clip -> logits float32 (batch, classes), and int32 (batch, kept) ascending token frames: number n is of the clip's
    frames 2n and 2n + 1.
    """

    def __init__(self, network: DualFormer) -> None:
        super().__init__()
        self.config = network.config
        self.backbone = network.backbone
        self.cls_head = network.cls_head

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        pooled, kept = self.backbone.pool_selected(clip)
        assert kept is not None  # the exporter refuses networks that select no frames
        return self.cls_head(pooled), kept


def count_macs(config: DualFormerConfig) -> int:
    """Multiply-accumulates of one clip (one view), counted by running the network on shapes alone."""
    with torch.device("meta"), torch.no_grad():
        network = DualFormer(config).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *config.clip_shape))
    return int(counter.get_total_flops()) // 2  # an operation here is a multiplication or an addition


def _attention(config: DualFormerConfig, stage: int, index: int) -> LocalAttention | GlobalAttention:
    width = config.widths[stage]
    if index % 2 == 0:
        return LocalAttention(width, local_window(config.token_grid(stage)))
    trained = config.trained_grid(stage)
    return GlobalAttention(width, trained, has_fine=stage in FINE_STAGES, has_coarse=stage in COARSE_STAGES)


def _depthwise(width: int, kernel: Grid) -> nn.Conv3d:
    return nn.Conv3d(width, width, kernel, stride=kernel, groups=width)
