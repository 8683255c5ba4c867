"""Outputs of the reference network block by block, laid out as the tensors of an exported graph are.

The graph's nodes have the network's names, so a tap is a pair of names: one for people, one of a tensor in the graph.
The folded graph keeps tokens as rows in the order that each block was made for, and leaves a bias that folds into the
next embedding out of the block before it; the reference's are put in that order, without that bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..core.choices import Graph
from ..core.types import LOGITS, Array, Clip
from .dualformer.network import Block, DualFormer, PatchEmbed, PositionEncoding
from .folding.fold import fold
from .folding.layers import FoldedBlock
from .folding.token_order import TokenOrder

Layout = Callable[[Tensor], Tensor]
EMBED, AFTER_ATTENTION, AFTER_MLP, POSITION = (
    "patch_embeds.{}.norm/LayerNormalization",
    "blocks.{}.{}/Add",
    "blocks.{}.{}/Add_2",
    "pos_block.{}/Conv",
)


class BlockTaps:
    """The outputs of patch embeddings, attentions and MLPs (each with its residual), and position encodings.

    `tensors` gives each tap's tensor in the graph, in the order of computation.
    """

    def __init__(self, network: DualFormer, graph: Graph) -> None:
        self._network = network
        self._taps = _list_taps(network, graph)
        self.tensors: Mapping[str, str] = {name: tensor for name, (tensor, _, _) in self._taps.items()}

    def run(self, clip: Clip) -> dict[str, Array]:
        """All taps of one clip, each in the layout of the graph's tensor, and the logits."""
        with _watching(self._taps) as seen, torch.inference_mode():
            logits: Tensor = self._network(torch.from_numpy(clip.network_input("float32")[None]))
        return {**{name: seen[name] for name in self._taps}, LOGITS: logits.numpy()}


Tap = tuple[str, nn.Module, tuple[bool, Layout]]  # tensor, module, (whether what it is given is tapped, layout)


def _list_taps(network: DualFormer, graph: Graph) -> dict[str, Tap]:
    backbone, taps = network.backbone, cast("dict[str, Tap]", {})
    folded = fold(network) if graph is Graph.FOLDED else None
    for stage in range(len(backbone.blocks)):
        blocks = cast("list[Block]", list(cast(nn.ModuleList, backbone.blocks[stage])))
        orders = [None] * len(blocks) if folded is None else _orders(cast(nn.ModuleList, folded.blocks[stage]))
        if not list(backbone.selectors_before(stage)):  # a selector reads the embedding, which is there twice then
            embed = cast(PatchEmbed, backbone.patch_embeds[stage])
            taps[f"patch_embeds.{stage}"] = (EMBED.format(stage), embed, (False, _rows(orders[0])))
        for index, (block, order) in enumerate(zip(blocks, orders, strict=True)):
            name, rows = f"blocks.{stage}.{index}", _rows(order)
            taps[f"{name}.attn"] = (AFTER_ATTENTION.format(stage, index), block.norm2, (True, rows))
            moved = folded is not None and _leaves_bias_out(cast(nn.ModuleList, folded.blocks[stage])[index])
            after = _without(block.mlp.fc2.bias, rows) if moved else rows
            taps[f"{name}.mlp"] = (AFTER_MLP.format(stage, index), block, (False, after))
            if index == 0 and folded is not None:
                position = cast(PositionEncoding, backbone.pos_block[stage])
                taps[f"pos_block.{stage}"] = (POSITION.format(stage), position, (False, _to_volume))
    return taps


def _orders(blocks: nn.ModuleList) -> list[TokenOrder | None]:
    return [cast(FoldedBlock, block).order for block in blocks]


def _leaves_bias_out(block: nn.Module) -> bool:
    return cast(FoldedBlock, block).mlp.fc2.bias is None


def _without(bias: Tensor, layout: Layout) -> Layout:
    return lambda x: layout(x - bias)


def _rows(order: TokenOrder | None) -> Layout:
    """Tokens (batch, frames, height, width, channels) as rows in `order`; as they are in the plain graph."""
    if order is None:
        return lambda x: x
    return lambda x: order.from_grid(x.permute(1, 2, 3, 0, 4).reshape(-1, x.shape[-1]))


def _to_volume(x: Tensor) -> Tensor:
    """(batch, frames, height, width, channels) -> (batch, channels, frames, height, width)."""
    return x.permute(0, 4, 1, 2, 3)


@contextmanager
def _watching(taps: Mapping[str, Tap]) -> Iterator[dict[str, Array]]:
    """Record the tensors that pass the taps while the network runs."""
    seen: dict[str, Array] = {}
    with ExitStack() as hooks:
        for name, (_, module, (is_input, layout)) in taps.items():

            def keep(x: Tensor, name: str = name, layout: Layout = layout) -> None:
                seen[name] = layout(x).numpy().copy()

            if is_input:
                handle = module.register_forward_pre_hook(lambda _, inputs, keep=keep: keep(inputs[0]))
            else:
                handle = module.register_forward_hook(lambda _, __, out, keep=keep: keep(out))
            hooks.callback(cast("Any", handle).remove)
        yield seen
