"""Values that half precision cannot hold are named, and layers that it would hurt behind their product stay."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dualexport.core.errors import ExportError
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.folding.fold import fold
from dualexport.exporter.folding.network import FoldedDualFormer
from dualexport.exporter.half_precision import TensorRange, inspect_half

FRAMES = 16


@pytest.fixture
def folded(make_network: Callable[[int], DualFormer]) -> FoldedDualFormer:
    return fold(make_network(FRAMES))


def random_clip() -> torch.Tensor:
    return torch.randn(1, 3, FRAMES, 224, 224, generator=torch.Generator().manual_seed(7))


@pytest.mark.slow
def test_ordinary_networks_fit_in_half(folded: FoldedDualFormer) -> None:
    found = inspect_half(folded, [random_clip()])
    assert (found.weights, found.tensors) == ((), ())


@pytest.mark.slow
def test_tensors_beyond_half_are_named_with_their_range(folded: FoldedDualFormer) -> None:
    folded.get_parameter("blocks.1.0.mlp.fc1.bias")[3] = 1e5
    folded.get_parameter("blocks.3.0.attn.proj.weight").mul_(1e-9)
    folded.get_parameter("blocks.3.0.attn.proj.bias").mul_(1e-9)
    findings = inspect_half(folded, [random_clip(), random_clip()])
    found = {range_.name: range_ for range_ in findings.tensors}
    assert found["blocks.1.0.mlp.fc1"].overflows
    assert found["blocks.1.0.mlp.fc1"].high == pytest.approx(1e5, rel=0.01)
    assert found["blocks.3.0.attn.proj"].vanishes
    assert "blocks.0.1.mlp.fc1" not in found
    weights = {range_.name for range_ in findings.weights}
    assert weights == {"blocks.1.0.mlp.fc1.bias", "blocks.3.0.attn.proj.weight", "blocks.3.0.attn.proj.bias"}


@pytest.mark.slow
def test_scores_that_overflow_are_named(folded: FoldedDualFormer) -> None:
    folded.get_parameter("blocks.2.1.attn.q.weight").mul_(1e5)
    names = {range_.name for range_ in inspect_half(folded, [random_clip()]).tensors}
    assert "blocks.2.1.attn.attend.softmax.input" in names


@pytest.mark.slow
def test_only_layers_that_half_does_not_hurt_standardize_behind_their_product(folded: FoldedDualFormer) -> None:
    folded.get_parameter("patch_embeds.1.norm.weight").mul_(1e4)  # rows of stage 1
    folded.get_parameter("blocks.1.0.mlp.fc1.weight").mul_(1e2)  # whose product overflows, before it is divided
    found = inspect_half(folded, [random_clip()]).dividing_behind
    others = {f"blocks.{stage}.{block}.mlp.fc1" for stage in (0, 2, 3) for block in range(2)}
    assert found - {"blocks.1.1.mlp.fc1"} == others  # that one reads what the first put out


@pytest.mark.slow
def test_not_a_number_counts_as_overflow(folded: FoldedDualFormer) -> None:
    folded.get_parameter("cls_head.fc_cls.bias")[0] = math.nan
    found = inspect_half(folded, [random_clip(), random_clip()]).tensors
    assert [range_.name for range_ in found if range_.overflows] == ["cls_head.fc_cls", "cls_head"]


def test_no_clip_is_an_error(folded: FoldedDualFormer) -> None:
    with pytest.raises(ExportError, match="no clip"):
        inspect_half(folded, [])


def test_zeros_do_not_vanish() -> None:
    assert not TensorRange("zeros", 0.0, 0.0).vanishes
    assert TensorRange("tiny", -1e-5, 0.0).vanishes
