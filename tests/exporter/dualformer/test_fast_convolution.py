"""Training relies on faster convolutions that are the same."""

from __future__ import annotations

import copy

import pytest
import torch
from dualexport.exporter.dualformer.fast_convolution import speed_up
from torch import nn

TOLERANCE = 1e-5  # of the largest value


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4)), (2, 3, 4, 8, 8)),
        (nn.Conv3d(6, 6, (1, 7, 7), stride=(1, 7, 7), groups=6), (2, 6, 4, 15, 14)),
        (nn.Conv3d(6, 6, 3, padding=1, groups=6), (2, 6, 8, 7, 9)),
    ],
    ids=["patches", "reducing", "depth-wise"],
)
def test_fast_convolutions_have_the_same_values_and_gradients(convolution: nn.Conv3d, shape: tuple[int, ...]) -> None:
    fast = speed_up(nn.Sequential(copy.deepcopy(convolution)))
    results = []
    for network in (convolution, fast):
        clip = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        out = network(clip)
        (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        results.append((out, clip.grad, *(parameter.grad for parameter in network.parameters())))
    for wanted, found in zip(*results, strict=True):
        assert (wanted - found).abs().max() <= TOLERANCE * wanted.abs().max()


def test_a_convolution_without_a_fast_form_is_refused() -> None:
    with pytest.raises(ValueError, match="no fast form"):
        speed_up(nn.Sequential(nn.Conv3d(4, 4, 3)))
