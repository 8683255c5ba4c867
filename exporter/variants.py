"""The forms of a network that can be exported: plain or folded, in FP32 or FP16, from clips or raw frames."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from ..core.choices import Graph, InputType, Precision
from ..core.errors import ExportError
from .dualformer.network import DualFormer, SelectionOutputs
from .folding.fold import fold
from .folding.network import FoldedDualFormer
from .half_precision import to_half


class PlainHalf(nn.Module):
    """The plain network in FP16, float32 outside: what converting it without folding gives."""

    def __init__(self, network: DualFormer, *, with_selection: bool) -> None:
        super().__init__()
        half = copy.deepcopy(network).half()
        self.backbone, self.cls_head = half.backbone, half.cls_head
        self.with_selection = with_selection

    def forward(self, clip: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pooled, kept = self.backbone.pool_selected(clip.half())
        logits: Tensor = self.cls_head(pooled).float()
        return (logits, kept) if self.with_selection and kept is not None else logits


def make_variant(
    network: DualFormer,
    graph: Graph,
    precision: Precision,
    input_type: InputType,
    *,
    with_selection: bool = False,
    dividing_behind: Collection[str] = (),
) -> nn.Module:
    """The module to trace; `network` itself is never changed. Raises ExportError for what there is no form of.

    With selection the module returns the token frames it selected beside the logits. The layers named in
    `dividing_behind` standardize by a factor on their product where the folded network is in FP16.
    """
    if precision not in (Precision.FP32, Precision.FP16):
        raise ExportError(f"there is no {precision.value} form of the network", fix="choose fp32 or fp16")
    if graph is Graph.PLAIN:
        if input_type is not InputType.FLOAT32:
            raise ExportError(
                f"the plain graph takes float32 clips, not {input_type.value}", fix="leave --graph plain or --input out"
            )
        if precision is Precision.FP16:
            return PlainHalf(network, with_selection=with_selection).eval()
        return SelectionOutputs(network).eval() if with_selection else network
    folded = make_folded(network, input_type, with_selection=with_selection)
    return folded if precision is Precision.FP32 else to_half(folded, dividing_behind)


def make_folded(network: DualFormer, input_type: InputType, *, with_selection: bool = False) -> FoldedDualFormer:
    """The folded network in FP32; `network` itself is never changed."""
    return fold(
        network,
        input_dtype=getattr(torch, input_type.value),
        preprocessing=network.config.preprocessing,
        with_selection=with_selection,
    )
