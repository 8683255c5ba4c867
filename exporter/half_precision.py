"""FP16 baked into the folded network, and what of it half precision cannot hold.

Weights and tensors become half; the statistics of LayerNorm and softmax, and the mean over tokens, stay float32 inside
their layers; logits leave as float32. A strongly typed compiler then has nothing left to decide.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..core.errors import ExportError
from .folding.identities import centre_rows
from .folding.layers import FoldedMlp, ScoreSoftmax, StandardizingLinear, deviation_factor, standardize
from .folding.network import FoldedDualFormer

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14  # below it, half loses a bit of precision with each halving
GROWN_ERROR = 1.5  # of a layer that standardizes behind its product, to that of one that does before
SAMPLED_ROWS = 512  # of each clip and layer
READS_UNNAMED = (FoldedMlp, ScoreSoftmax)  # their inputs, residuals and scores, are no module's output


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The values a tensor takes: `name` is its parameter, or the module whose output (or `.input`) it is."""

    name: str
    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def overflows(self) -> bool:
        """True where some value is infinite in half; a range with NaN in it is infinite."""
        return self.magnitude > LARGEST_HALF

    @property
    def vanishes(self) -> bool:
        """True where no value is a normal number in half, though not all are zero."""
        return 0.0 < self.magnitude < SMALLEST_NORMAL_HALF


def to_half(network: FoldedDualFormer, dividing_behind: Collection[str] = ()) -> FoldedDualFormer:
    """A copy of `network` that computes in FP16; it takes and returns the same types.

    The layers named in `dividing_behind` standardize by a factor on their product.
    """
    half = copy.deepcopy(network)
    with torch.no_grad():
        for name in dividing_behind:
            layer = half.get_submodule(name)
            assert isinstance(layer, StandardizingLinear)
            layer.divide_behind()
    return half.half()


def find_dividing_behind(network: FoldedDualFormer, clips: Iterable[Tensor]) -> frozenset[str]:
    """The layers of the float32 `network` that may standardize by a factor on their product in FP16.

    Each is measured on rows of `clips`, inputs of the network: no value overflows, and its error in half precision
    is at most GROWN_ERROR of what it is where rows are standardized first.
    """
    errors: dict[str, list[float]] = {}  # of each layer, squared: standardized first, then behind

    def measure(name: str, layer: StandardizingLinear, x: Tensor) -> None:
        rows = x[:: max(1, len(x) // SAMPLED_ROWS)]
        found = errors.setdefault(name, [0.0, 0.0])
        for index, error in enumerate(_half_errors(layer, rows)):
            found[index] += error

    handles = [
        module.register_forward_pre_hook(lambda layer, inputs, name=name: measure(name, layer, inputs[0]))
        for name, module in network.named_modules()
        if isinstance(module, StandardizingLinear)
    ]
    try:
        with torch.no_grad():
            for clip in clips:
                network(clip)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(name for name, (first, behind) in errors.items() if behind <= GROWN_ERROR**2 * first)


def _half_errors(layer: StandardizingLinear, rows: Tensor) -> tuple[float, float]:
    """The squared error of the layer in half precision on float32 rows: standardized first, and behind the product.

    Sums are float32, as tensor cores keep them; what overflows is an infinite error.
    """
    exact = layer.forward(rows)  # without its hooks, of which this is one
    halves = _round_half(rows)
    bias = _round_half(layer.bias)
    first = _round_half(_round_half(standardize(halves)) @ _round_half(layer.weight).t() + bias)
    product = _round_half(halves @ _round_half(centre_rows(layer.weight.double()).float()).t())
    behind = _round_half(_round_half(product * _round_half(deviation_factor(halves))) + bias)
    first_error, error = (float((found - exact).square().sum()) for found in (first, behind))
    return first_error, error if math.isfinite(error) else math.inf


def _round_half(values: Tensor) -> Tensor:
    return values.half().float()


def find_weights_beyond_half(network: nn.Module) -> tuple[TensorRange, ...]:
    """The parameters that overflow or vanish in half."""
    ranges = (TensorRange(name, *_extremes(value)) for name, value in network.named_parameters())
    return tuple(range_ for range_ in ranges if range_.overflows or range_.vanishes)


def find_tensors_beyond_half(network: nn.Module, clips: Iterable[Tensor]) -> tuple[TensorRange, ...]:
    """The tensors that overflow or vanish in half when the float32 `network` runs on `clips`, with their ranges.

    A clip is one input of the network, with its batch. Raises ExportError when there is none.
    """
    ranges: dict[str, TensorRange] = {}
    count = 0
    with _observing(network, ranges), torch.no_grad():
        for clip in clips:
            network(clip)
            count += 1
    if count == 0:
        raise ExportError("no clip was given to measure ranges on", fix="give at least one clip")
    return tuple(range_ for range_ in ranges.values() if range_.overflows or range_.vanishes)


@contextmanager
def _observing(network: nn.Module, ranges: dict[str, TensorRange]) -> Iterator[None]:
    """While the block runs, widen `ranges` by what flows through the modules of `network`."""

    def widen(name: str, values: object) -> None:
        for index, value in enumerate(values if isinstance(values, tuple) else (values,)):
            if isinstance(value, Tensor) and value.is_floating_point():
                key = f"{name}[{index}]" if isinstance(values, tuple) and len(values) > 1 else name
                low, high = _extremes(value)
                seen = ranges.get(key, TensorRange(key, low, high))
                ranges[key] = TensorRange(key, min(seen.low, low), max(seen.high, high))

    def hooks(name: str, module: nn.Module) -> Iterator[RemovableHandle]:
        yield module.register_forward_hook(lambda _module, _inputs, output: widen(name, output))
        if isinstance(module, READS_UNNAMED):
            yield module.register_forward_pre_hook(lambda _module, inputs: widen(f"{name}.input", inputs))

    handles = [handle for name, module in network.named_modules() if name for handle in hooks(name, module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _extremes(value: Tensor) -> tuple[float, float]:
    low, high = (float(extreme) for extreme in torch.aminmax(value))
    return (-math.inf, math.inf) if math.isnan(low) else (low, high)
