"""Rounds weights to 8 bits, one scale an output or a whole stack, so that a layer's output changes least on the clips.

Rounding to the nearest value makes an error that is the same for every token, and which the mean over tokens at the
network's end does not average out. So an input's error is made up for by the inputs that are still to be rounded, as
in optimal brain quantization (GPTQ, arXiv 2210.17323): for W x, with H = E[x x^T], rounding input j leaves
e_j = (w_j - q_j) / U_jj, and w_k -= e_j U_jk for the later k, where U is the upper Cholesky factor of H^-1.
It is not always better than rounding to the nearest: an output keeps the better of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import INT8, EightBits
from .scales import SMALLEST_SCALE

DAMPING = 0.01  # added to H's diagonal, as a share of its mean: few clips leave H without full rank
BLOCK = 64  # inputs whose corrections to all later ones are applied at once
CLIPPED = np.linspace(0.7, 1.0, 13)  # shares of an output's largest weight that are tried as its range


@dataclass(frozen=True, slots=True)
class RoundedWeight:
    """Weight (outputs, inputs) in 8 bits and the scales of equally many consecutive outputs each.

    A scale is a normal half-precision number; there are as many as outputs, or one for a stack.
    """

    values: NDArray[Any]
    scales: NDArray[np.float32]

    @property
    def output_scales(self) -> NDArray[np.float32]:
        """The scale of each output."""
        return np.repeat(self.scales, len(self.values) // len(self.scales))

    def dequantized(self) -> NDArray[np.float32]:
        """The weight that the graph computes with."""
        product: NDArray[np.float32] = self.values.astype(np.float32) * self.output_scales[:, None]
        return product


def round_weight(
    weight: NDArray[np.float32], moments: NDArray[np.float64], scales: int, eight: EightBits = INT8
) -> RoundedWeight:
    """8 bits with so many `scales` for `weight` (outputs, inputs).

    Its inputs have the second moments `moments` (inputs, inputs).
    """
    groups = weight.astype(np.float64).reshape(scales, -1, weight.shape[1])
    chosen = _choose_scales(groups, np.diag(moments), eight)
    steps = (groups / chosen[:, None, None]).reshape(weight.shape)
    nearest, values = eight.round(steps), _round_in_turn(steps, moments, eight)
    is_worse = _output_errors(steps - nearest, moments) < _output_errors(steps - values, moments)
    values[is_worse] = nearest[is_worse]
    return RoundedWeight(values.astype(np.float32).astype(eight.dtype), chosen.astype(np.float32))


def _output_errors(difference: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean squared error of each output whose weights differ by a row of `difference`: d E[x x^T] d^T."""
    errors: NDArray[np.float64] = ((difference @ moments) * difference).sum(axis=1)
    return errors


def _choose_scales(groups: NDArray[np.float64], power: NDArray[np.float64], eight: EightBits) -> NDArray[np.float64]:
    """The scale of least squared error of each group (groups, outputs, inputs), the inputs weighted by their power."""
    largest = np.abs(groups).max(axis=(1, 2))
    best = np.full(len(groups), np.inf)
    chosen = np.full(len(groups), SMALLEST_SCALE)
    for share in CLIPPED:
        scales = np.maximum(largest * share / eight.largest, SMALLEST_SCALE).astype(np.float16).astype(np.float64)
        steps = scales[:, None, None]
        rounded = eight.round(groups / steps) * steps
        error = ((groups - rounded) ** 2 @ power).sum(axis=1)
        better = error < best
        best[better], chosen[better] = error[better], scales[better]
    return chosen


def _round_in_turn(steps: NDArray[np.float64], moments: NDArray[np.float64], eight: EightBits) -> NDArray[np.float64]:
    """Numbers of 8 bits for `steps` (outputs, inputs), each input's error made up for by the inputs after it."""
    inputs = steps.shape[1]
    damped = moments + np.eye(inputs) * max(DAMPING * float(np.mean(np.diag(moments))), np.finfo(np.float64).tiny)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, rounded = steps.copy(), np.empty_like(steps)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = np.empty((len(steps), end - start))
        for index in range(start, end):
            rounded[:, index] = eight.round(left[:, index])
            errors[:, index - start] = (left[:, index] - rounded[:, index]) / upper[index, index]
            left[:, index:end] -= errors[:, index - start, None] * upper[index, index:end]
        left[:, end:] -= errors @ upper[start:end, end:]
    return rounded
