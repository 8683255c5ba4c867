"""Exact rewrites of a layer's weight and bias, one identity each.

They hold in real arithmetic; all compute in float64 and return new tensors. What each of them does to a compiled
plan is in docs/folding.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...core.errors import ExportError
from ...core.types import Preprocessing

LAYER_NORM_EPSILON = 1e-5
CHANNELS_PER_GROUP = 2
LARGEST_FACTOR = 16.0  # between channels that are levelled
PIXEL_OFFSET = 128.0  # pixels become (pixel - 128) / 128: in [-1, 1), and exact in half precision


class Affine(NamedTuple):
    """Weight and bias of a linear layer (out, in), a convolution (out, in, d, h, w) or a normalization (channels,)."""

    weight: Tensor
    bias: Tensor


def affine_of(layer: nn.Linear | nn.Conv3d | nn.LayerNorm | nn.BatchNorm3d) -> Affine:
    """The layer's weight and bias in float64; raises ExportError for a LayerNorm with another epsilon than ours."""
    if isinstance(layer, nn.LayerNorm) and layer.eps != LAYER_NORM_EPSILON:
        raise ExportError(
            f"a LayerNorm has epsilon {layer.eps}, the folded network computes with {LAYER_NORM_EPSILON}",
            fix="export this network with --graph plain",
        )
    weight = layer.weight.detach().double()
    bias = layer.bias
    return Affine(weight, weight.new_zeros(weight.shape[0]) if bias is None else bias.detach().double())


def fold_norm_into_linear(norm: Affine, linear: Affine) -> Affine:
    """A LayerNorm's gain g and bias b into the linear layer after it: W (g z + b) + c = (W diag(g)) z + (W b + c)."""
    return Affine(linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias)


def fold_norm_into_depthwise(norm: Affine, conv: Affine) -> Affine:
    """A LayerNorm's gain and bias into a depth-wise convolution without padding after it, per channel.

    sum_t k_t (g z_t + b) + c = sum_t (g k_t) z_t + (b sum_t k_t + c).
    """
    bias = conv.bias + norm.bias * conv.weight.sum(dim=(1, 2, 3, 4))
    return Affine(conv.weight * _per_output(norm.weight), bias)


def fold_batch_norm(conv: Affine, norm: nn.BatchNorm3d) -> Affine:
    """Fold a BatchNorm into the convolution before it.

    g (k * x + c - m) / sqrt(v + e) + b, with s = g / sqrt(v + e), is (s k) * x + (s (c - m) + b).
    Raises ExportError for a BatchNorm that keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError(
            "a BatchNorm keeps no running statistics, so it has no fixed scale", fix="export with --graph plain"
        )
    gain, shift = affine_of(norm)
    scale = gain / (norm.running_var.double() + norm.eps).sqrt()
    return Affine(conv.weight * _per_output(scale), (conv.bias - norm.running_mean.double()) * scale + shift)


def fold_residual(conv: Affine) -> Affine:
    """A residual around a depth-wise convolution into its centre tap: x + k * x = (k + delta) * x."""
    weight = conv.weight.clone()
    d, h, w = (extent // 2 for extent in weight.shape[2:])
    weight[:, :, d, h, w] += 1.0
    return Affine(weight, conv.bias)


def centre_rows(weight: Tensor) -> Tensor:
    """A linear layer's weight (out, in) to which the mean of its input adds nothing: V x = V (x - m 1).

    V = W - (W 1 / C) 1^T.

    On standardized tokens, which sum to zero over channels, V acts like W.
    """
    return weight - weight.mean(dim=1, keepdim=True)


def fold_scale(linear: Affine, scale: float) -> Affine:
    """A factor on a linear layer's output into the layer: s (W x + b) = (s W) x + s b."""
    return Affine(linear.weight * scale, linear.bias * scale)


def fold_value_bias(value: Affine, proj: Affine) -> Affine:
    """The bias of attention's values through the output projection: P (A (V + 1 b)) + p = P (A V) + (P b + p).

    The rows of the attention weights A sum to one. (A bias on the keys adds one number to all scores of a query,
    which the softmax does not see: it is left out.)
    """
    return Affine(proj.weight, proj.bias + proj.weight @ value.bias)


def level_query_key(query: Affine, key: Tensor) -> tuple[Affine, Tensor]:
    """A factor on each channel of the query and its inverse on the same of the key: (Q D) (K / D)^T = Q K^T.

    Weights are (out, in). D gives a channel of both the same largest weight, the geometric mean of the two, so that
    one scale for both weights loses little against a scale for each channel.
    """
    factor = _bounded((_largest(key) / _largest(query.weight)).sqrt())
    return Affine(query.weight * factor[:, None], query.bias * factor), key / factor[:, None]


def level_value(value: Tensor, proj: Affine, key: Tensor) -> tuple[Tensor, Affine]:
    """A factor on each channel of the value and its inverse on the projection's column: (A V D) (P / D)^T = A V P^T.

    D gives every channel of the value the largest weight of `key`, with which it shares a scale.
    """
    factor = _bounded(_largest(key).max() / _largest(value))
    return value * factor[:, None], Affine(proj.weight / factor, proj.bias)


def fold_bias_into_weight(linear: Affine, shift: float) -> Tensor:
    """A linear layer's bias into its weight, for inputs z + s whose z sums to zero over channels: V (z + s) = W z + b.

    V = W + u 1^T adds one number per output to all of its weights: (u 1^T) z = 0, and V s = s (W 1 + C u), so
    u = (b / s - W 1) / C. Standardized tokens sum to zero, whatever the data.
    """
    per_output = (linear.bias / shift - linear.weight.sum(dim=1)) / linear.weight.shape[1]
    return linear.weight + per_output[:, None]


def fold_shift(conv: Affine, shift: float) -> Affine:
    """A number that is added to the input of a depth-wise convolution without padding, out of its bias again.

    k * (x + s) + (c - s sum k) = k * x + c.
    """
    return Affine(conv.weight, conv.bias - shift * conv.weight.sum(dim=(1, 2, 3, 4)))


def fold_bias_into_patches(bias: Tensor, embed: Affine) -> Affine:
    """A bias on every token into the convolution without padding after it: k * (x + b) + c = k * x + (c + sum k b)."""
    return Affine(embed.weight, embed.bias + embed.weight.sum(dim=(2, 3, 4)) @ bias)


def fold_color(embed: Affine, preprocessing: Preprocessing) -> Affine:
    """Colour normalization into the patch embedding, for input y = (pixel - 128) / 128.

    k ((pixel - m) / s) + c = (128 k / s) y + (c + sum k (128 - m) / s), per colour.
    """
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (preprocessing.mean, preprocessing.std))
    bias = embed.bias + embed.weight.sum(dim=(2, 3, 4)) @ ((PIXEL_OFFSET - mean) / std)
    return Affine(embed.weight * (PIXEL_OFFSET / std)[:, None, None, None], bias)


def pair_channels(weight: Tensor) -> Tensor:
    """A depth-wise kernel (C, 1, ...) as groups of two channels (C, 2, ...) that do not mix: zeros across.

    Raises ExportError for an odd number of channels.
    """
    if weight.shape[0] % CHANNELS_PER_GROUP:
        raise ExportError(
            f"{weight.shape[0]} channels cannot be grouped in twos", fix="export this network with --graph plain"
        )
    paired = weight.new_zeros(weight.shape[0], CHANNELS_PER_GROUP, *weight.shape[2:])
    for channel in range(CHANNELS_PER_GROUP):
        paired[channel::CHANNELS_PER_GROUP, channel] = weight[channel::CHANNELS_PER_GROUP, 0]
    return paired


def _per_output(values: Tensor) -> Tensor:
    return values[:, None, None, None, None]


def _bounded(factor: Tensor) -> Tensor:
    """Factors that leave a channel which is all but dead where half precision can hold it."""
    return factor.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR)


def _largest(weight: Tensor) -> Tensor:
    """The largest magnitude of each output's weights (out, in); one for an output whose weights are all zero."""
    largest = weight.abs().amax(dim=1)
    return torch.where(largest > 0.0, largest, 1.0)
