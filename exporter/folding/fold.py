"""From the reference network to the folded one: which fold goes where.

The reference keeps its parameters; the identities are in `folds`.
"""

from __future__ import annotations

import math
from typing import TypeVar, cast

import torch
from torch import nn

from ...core.errors import ExportError
from ...core.types import Preprocessing
from ..dualformer.network import (
    HEAD_DIM,
    Block,
    DualFormer,
    GlobalAttention,
    LocalAttention,
    PatchEmbed,
    PositionEncoding,
)
from ..dualformer.selectors import SpatialSelector, TemporalSelector
from ..dualformer.token_grids import stage_grids
from .identities import (
    Affine,
    affine_of,
    fold_batch_norm,
    fold_bias_into_patches,
    fold_bias_into_weight,
    fold_color,
    fold_norm_into_depthwise,
    fold_norm_into_linear,
    fold_residual,
    fold_scale,
    fold_shift,
    fold_value_bias,
    level_query_key,
    level_value,
    pair_channels,
)
from .layers import QKV_SHIFT, DepthwiseConv, FoldedBlock, FoldedMlp, PyramidAttention, SelfAttention
from .network import FoldedDualFormer, PixelEmbed, TokenEmbed
from .selectors import FoldedSpatialSelector, FoldedTemporalSelector
from .token_order import TokenOrder

PUBLISHED = Preprocessing()
Module = TypeVar("Module", bound=nn.Module)


def fold(
    network: DualFormer,
    *,
    input_dtype: torch.dtype = torch.float32,
    preprocessing: Preprocessing = PUBLISHED,
    with_selection: bool = False,
) -> FoldedDualFormer:
    """The same function as `network` in evaluation mode, made to compile into fewer layers; float32, on the CPU.

    With `input_dtype` torch.uint8 it takes raw RGB frames (batch, frames, 224, 224, 3) and `preprocessing` says how
    they would have been normalized. With selection it returns the token frames that it selected beside the logits.
    Raises ExportError for another type, or a network that cannot be folded exactly.
    """
    if input_dtype not in (torch.float32, torch.uint8):
        raise ExportError(f"the input cannot be {input_dtype}", fix="choose --input float32 or --input uint8")
    with torch.no_grad():
        folded = FoldedDualFormer(
            network.config,
            input_dtype,
            _fold_embeds(network, preprocessing if input_dtype == torch.uint8 else None),
            [_fold_stage(network, stage) for stage in range(len(network.backbone.blocks))],
            [_fold_position(position) for position in _listed(network.backbone.pos_block, PositionEncoding)],
        )
        _fold_selectors(network, folded)
        folded.with_selection = with_selection
        norm, head = affine_of(network.backbone.norm), affine_of(network.cls_head.fc_cls)
        _assign(folded.cls_head.fc_cls, fold_norm_into_linear(norm, head))
    return folded.eval().requires_grad_(False)


def _fold_embeds(network: DualFormer, color: Preprocessing | None) -> list[PixelEmbed | TokenEmbed]:
    """The patch embeddings, with the colour normalization and the bias of the stage before in them."""
    config = network.config
    embeds: list[PixelEmbed | TokenEmbed] = []
    for stage, reference in enumerate(_listed(network.backbone.patch_embeds, PatchEmbed)):
        affine = affine_of(reference.proj)
        if stage == 0:
            if color is not None:
                weight, bias = fold_color(affine, color)
                affine = Affine(weight.permute(0, 2, 3, 4, 1), bias)  # (width, d, h, w, 3): the colours lie together
            affine = Affine(affine.weight.flatten(1), affine.bias)
            embeds.append(PixelEmbed(config.widths[0], config.embedded_grid(0)))
        else:
            affine = fold_bias_into_patches(affine_of(_blocks(network, stage - 1)[-1].mlp.fc2).bias, affine)
            embeds.append(TokenEmbed(reference.proj, config.token_grid(stage - 1)))
        _assign(embeds[-1].proj, affine)
        _assign(embeds[-1].norm, affine_of(reference.norm))
    return embeds


def _fold_selectors(network: DualFormer, folded: FoldedDualFormer) -> None:
    """Selectors on rows; the last of a stage puts what it keeps in the order that the stage's first block reads."""
    config = network.config
    for stage, grids in enumerate(stage_grids(config.frames, config.selections)):
        selectors = list(network.backbone.selectors_before(stage))
        for index, (selector, grid, kept) in enumerate(zip(selectors, grids[:-1], grids[1:], strict=True)):
            is_last = index == len(selectors) - 1
            order = _first_block(folded, stage).order if is_last else TokenOrder.of_grid(kept)
            if isinstance(selector, TemporalSelector):
                folded.time_score_predictor.append(FoldedTemporalSelector(selector, grid, order))
            else:
                folded.space_score_predictor.append(FoldedSpatialSelector(cast(SpatialSelector, selector), grid, order))


def _fold_stage(network: DualFormer, stage: int) -> list[FoldedBlock]:
    """A stage's blocks, in window order as long as a block with local attention follows, then in grid order."""
    blocks = _blocks(network, stage)
    grid = network.config.token_grid(stage)
    local = [index for index, block in enumerate(blocks) if isinstance(block.attn, LocalAttention)]
    order = TokenOrder(grid, cast(LocalAttention, blocks[local[0]].attn).window)
    is_last_stage = stage == len(network.config.depths) - 1
    return [
        _fold_block(
            block,
            order if index <= local[-1] else TokenOrder.of_grid(grid),
            bias=is_last_stage or index < len(blocks) - 1,  # the next embedding has the last block's
        )
        for index, block in enumerate(blocks)
    ]


def _fold_block(block: Block, order: TokenOrder, *, bias: bool) -> FoldedBlock:
    norm, attention = affine_of(block.norm1), block.attn
    mlp = FoldedMlp(block.mlp.fc1.in_features, bias=bias)
    _assign(mlp.fc1, fold_norm_into_linear(affine_of(block.norm2), affine_of(block.mlp.fc1)))
    _assign(mlp.fc2, affine_of(block.mlp.fc2))
    if isinstance(attention, LocalAttention):
        query, key, value = _split(affine_of(attention.qkv), 3)
        return FoldedBlock(
            order, _fold_self_attention(norm, (query, key, value), attention.proj, order.window_tokens), mlp
        )
    query, (key, value) = affine_of(attention.q), _split(affine_of(attention.kv), 2)
    if attention.sr is None:
        sequence = math.prod(order.grid)
        return FoldedBlock(order, _fold_self_attention(norm, (query, key, value), attention.proj, sequence), mlp)
    return FoldedBlock(order, _fold_pyramid_attention(norm, attention, order), mlp)


def _fold_self_attention(
    norm: Affine, qkv: tuple[Affine, Affine, Affine], proj: nn.Linear, sequence: int
) -> SelfAttention:
    query, key, value = (fold_norm_into_linear(norm, part) for part in qkv)
    query = fold_scale(query, HEAD_DIM**-0.5)
    folded = SelfAttention(proj.in_features, sequence)
    no_bias = torch.zeros_like(key.bias)  # the softmax does not see a key's, and the projection has the value's
    parts = (query, Affine(key.weight, no_bias), Affine(value.weight, no_bias))
    wq, wk, wv = (fold_bias_into_weight(part, QKV_SHIFT) for part in parts)
    shifted, wk = level_query_key(Affine(wq, no_bias), wk)
    wv, projected = level_value(wv, fold_value_bias(value, affine_of(proj)), wk)
    folded.qkv.weight.copy_(torch.stack([shifted.weight.t(), wk.t(), wv.t()]))
    _assign(folded.proj, projected)
    return folded


def _fold_pyramid_attention(norm: Affine, attention: GlobalAttention, order: TokenOrder) -> PyramidAttention:
    assert attention.sr is not None
    assert attention.norm is not None
    coarse, shift = None, QKV_SHIFT if order.is_grid else 0.0  # in grid order they read what the query does
    if attention.lr is not None:
        reduce, summarize = cast(nn.Conv3d, attention.lr[0]), cast(nn.Conv3d, attention.lr[3])
        batch_norm = cast(nn.BatchNorm3d, attention.lr[1])
        first = fold_batch_norm(fold_shift(fold_norm_into_depthwise(norm, affine_of(reduce)), shift), batch_norm)
        coarse = nn.Sequential(
            _make_depthwise(reduce, first), nn.ReLU(), _make_depthwise(summarize, affine_of(summarize))
        )
    fine = _make_depthwise(attention.sr, fold_shift(fold_norm_into_depthwise(norm, affine_of(attention.sr)), shift))
    folded = PyramidAttention(order, fine, coarse)
    query = fold_scale(fold_norm_into_linear(norm, affine_of(attention.q)), HEAD_DIM**-0.5)
    key, value = (fold_norm_into_linear(affine_of(attention.norm), part) for part in _split(affine_of(attention.kv), 2))
    projected = fold_value_bias(value, affine_of(attention.proj))
    shifted = fold_bias_into_weight(query, QKV_SHIFT)
    (wq, _), wk = level_query_key(Affine(shifted, torch.zeros_like(query.bias)), key.weight)
    wv, projected = level_value(value.weight, projected, wk)
    folded.q.weight.copy_(wq)
    folded.kv.weight.copy_(torch.stack([wk.t(), wv.t()]))
    _assign(folded.proj, projected)
    return folded


def _fold_position(position: PositionEncoding) -> DepthwiseConv:
    conv = cast(nn.Conv3d, position.proj[0])
    return _make_depthwise(conv, fold_residual(affine_of(conv)))


def _make_depthwise(reference: nn.Conv3d, affine: Affine) -> DepthwiseConv:
    conv = DepthwiseConv(reference)
    _assign(conv, Affine(pair_channels(affine.weight), affine.bias))
    return conv


def _assign(layer: nn.Linear | nn.Conv3d | nn.LayerNorm, affine: Affine) -> None:
    """Give `layer` these parameters; a layer made without a bias has had it folded into the layer that reads it."""
    layer.weight.copy_(affine.weight)
    if layer.bias is not None:
        layer.bias.copy_(affine.bias)


def _split(affine: Affine, parts: int) -> list[Affine]:
    """A layer with several outputs side by side as one layer each."""
    return [Affine(*part) for part in zip(affine.weight.chunk(parts), affine.bias.chunk(parts), strict=True)]


def _first_block(folded: FoldedDualFormer, stage: int) -> FoldedBlock:
    return _listed(cast(nn.ModuleList, folded.blocks[stage]), FoldedBlock)[0]


def _blocks(network: DualFormer, stage: int) -> list[Block]:
    return _listed(cast(nn.ModuleList, network.backbone.blocks[stage]), Block)


def _listed(modules: nn.ModuleList, kind: type[Module]) -> list[Module]:
    """The modules, which a ModuleList holds without their type."""
    found = list(modules)
    assert all(isinstance(module, kind) for module in found)
    return cast("list[Module]", found)
