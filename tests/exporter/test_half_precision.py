"""FP16 keeps the answer, and what half cannot hold is named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dualexport.core.errors import ExportError
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.folding.fold import fold
from dualexport.exporter.folding.network import FoldedDualFormer
from dualexport.exporter.half_precision import TensorRange, find_tensors_beyond_half, find_weights_beyond_half, to_half

FRAMES = 16


@pytest.fixture
def folded(make_network: Callable[[int], DualFormer]) -> FoldedDualFormer:
    return fold(make_network(FRAMES))


def random_clip() -> torch.Tensor:
    return torch.randn(1, 3, FRAMES, 224, 224, generator=torch.Generator().manual_seed(7))


@pytest.mark.slow
def test_half_agrees_with_float(folded: FoldedDualFormer) -> None:
    half, clip = to_half(folded), random_clip()
    with torch.no_grad():
        found, expected = half(clip), folded(clip)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected).item() >= 0.9999
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float32}


@pytest.mark.slow
def test_ordinary_networks_fit_in_half(folded: FoldedDualFormer) -> None:
    assert find_weights_beyond_half(folded) == ()
    assert find_tensors_beyond_half(folded, [random_clip()]) == ()


@pytest.mark.slow
def test_tensors_beyond_half_are_named_with_their_range(folded: FoldedDualFormer) -> None:
    folded.get_parameter("blocks.1.0.mlp.fc1.bias")[3] = 1e5
    folded.get_parameter("blocks.3.0.attn.proj.weight").mul_(1e-9)
    folded.get_parameter("blocks.3.0.attn.proj.bias").mul_(1e-9)
    found = {range_.name: range_ for range_ in find_tensors_beyond_half(folded, [random_clip(), random_clip()])}
    assert found["blocks.1.0.mlp.fc1"].overflows
    assert found["blocks.1.0.mlp.fc1"].high == pytest.approx(1e5, rel=0.01)
    assert found["blocks.3.0.attn.proj"].vanishes
    assert "blocks.0.1.mlp.fc1" not in found
    weights = {range_.name for range_ in find_weights_beyond_half(folded)}
    assert weights == {"blocks.1.0.mlp.fc1.bias", "blocks.3.0.attn.proj.weight", "blocks.3.0.attn.proj.bias"}


def test_scores_that_overflow_are_named(folded: FoldedDualFormer) -> None:
    folded.get_parameter("blocks.2.1.attn.q.weight").mul_(1e5)
    names = {range_.name for range_ in find_tensors_beyond_half(folded, [random_clip()])}
    assert "blocks.2.1.attn.attend.softmax.input" in names


def test_not_a_number_counts_as_overflow(folded: FoldedDualFormer) -> None:
    folded.get_parameter("cls_head.fc_cls.bias")[0] = math.nan
    found = find_tensors_beyond_half(folded, [random_clip(), random_clip()])
    assert [range_.name for range_ in found if range_.overflows] == ["cls_head.fc_cls", "cls_head"]


def test_no_clip_is_an_error(folded: FoldedDualFormer) -> None:
    with pytest.raises(ExportError, match="no clip"):
        find_tensors_beyond_half(folded, [])


def test_zeros_do_not_vanish() -> None:
    assert not TensorRange("zeros", 0.0, 0.0).vanishes
    assert TensorRange("tiny", -1e-5, 0.0).vanishes
