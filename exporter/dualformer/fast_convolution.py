"""The network's convolutions as reshapes, products and matrix multiplications: the same function, trained faster.

PyTorch's depth-wise 3-D convolutions have a slow backward pass on a CPU: it takes four fifths of a training step.
Parameters keep their names and shapes, so that a checkpoint fits the network as it is exported.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)


def speed_up(network: Network) -> Network:
    """Replace the forward pass of every Conv3d in place; raises ValueError for a kind that has no fast form."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.__class__ = _fast_class(module)
    return network


class PatchConvolution(nn.Conv3d):
    """Stride equals kernel, dense: each patch is one row of a matrix multiplication."""

    def forward(self, x: Tensor) -> Tensor:
        patches = _cut(x, self.kernel_size)  # (B, D', kd, H', kh, W', kw, C)
        patches = patches.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(4)  # (B, D', H', W', C * kernel)
        return functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


class ReducingConvolution(nn.Conv3d):
    """Stride equals kernel, depth-wise: a weighted sum over each patch."""

    def forward(self, x: Tensor) -> Tensor:
        patches = _cut(x, self.kernel_size)  # (B, D', kd, H', kh, W', kw, C)
        kernel = self.weight.squeeze(1).permute(1, 2, 3, 0)[:, None, :, None]  # (kd, 1, kh, 1, kw, C)
        out = (patches * kernel).sum(dim=(2, 4, 6))
        assert self.bias is not None
        return (out + self.bias).permute(0, 4, 1, 2, 3)


class DepthwiseConvolution(nn.Conv3d):
    """3x3x3, stride 1, padding 1, depth-wise; only the backward pass differs from PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Depthwise.apply(x.contiguous(), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # torch's own type
        ctx.save_for_backward(x, weight)
        return functional.conv3d(x, weight, bias, padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()  # (B, C, D, H, W)
        to_input = functional.conv3d(gradient, weight.flip(2, 3, 4), padding=1, groups=x.shape[1])
        return to_input, _weight_gradient(x, gradient), gradient.sum(dim=(0, 2, 3, 4))


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """(C, 1, 3, 3, 3): products of frames with frames for each shift in space, summed along their diagonals."""
    batch, channels, frames, height, width = x.shape
    padded = functional.pad(x, (1, 1, 1, 1))
    rows = gradient.flatten(3).flatten(0, 1)  # (B * C, D, H * W)
    out = x.new_empty(channels, 1, 3, 3, 3)
    for row in range(3):
        for column in range(3):
            shifted = padded[..., row : row + height, column : column + width].flatten(3).flatten(0, 1)
            products = torch.bmm(rows, shifted.transpose(1, 2))  # (B * C, D, D): gradient's frame, input's frame
            products = products.reshape(batch, channels, frames, frames).sum(0)
            for step in range(3):
                diagonal = products.diagonal(step - 1, 1, 2)
                out[:, 0, step, row, column] = diagonal.sum(-1)
    return out


def _cut(x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """(B, C, D, H, W) -> whole patches, channels last: (B, D', kd, H', kh, W', kw, C); a remainder is left out."""
    d, h, w = kernel
    x = x.permute(0, 2, 3, 4, 1)
    counts = [extent // step for extent, step in zip(x.shape[1:4], kernel, strict=True)]
    x = x[:, : counts[0] * d, : counts[1] * h, : counts[2] * w]
    return x.reshape(x.shape[0], counts[0], d, counts[1], h, counts[2], w, x.shape[-1])


def _fast_class(module: nn.Conv3d) -> type[nn.Conv3d]:
    if module.stride == module.kernel_size:
        return PatchConvolution if module.groups == 1 else ReducingConvolution
    if module.kernel_size == (3, 3, 3) and module.padding == (1, 1, 1) and module.groups == module.in_channels:
        return DepthwiseConvolution
    raise ValueError(f"no fast form of {module}")
