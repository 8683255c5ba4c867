"""Half precision, measured on clips: the layers that may be rewritten for it, and the values that it cannot hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..core.errors import ExportError
from .folding.identities import LAYER_NORM_EPSILON, centre_rows
from .folding.layers import FoldedMlp, ScoreSoftmax, StandardizingLinear, standardize

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14  # below it, half loses a bit of precision with each halving
GROWN_ERROR = 1.5  # of a layer that standardizes behind its product, to that of one that does before
COMPARED_CLIPS = 2
SAMPLED_ROWS = 512  # of each clip and layer, at most
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


@dataclass(frozen=True, slots=True)
class HalfFindings:
    """The parameters and tensors of a network that overflow or vanish in half, with their ranges.

    The layers named in `dividing_behind` may standardize by a factor on their product.
    """

    weights: tuple[TensorRange, ...]
    tensors: tuple[TensorRange, ...]
    dividing_behind: frozenset[str]


def inspect_half(network: nn.Module, clips: Sequence[Tensor]) -> HalfFindings:
    """Run the float32 `network` on `clips`, inputs with their batch, and look at what half precision makes of it.

    A layer may standardize behind its product if on rows of the first clips no value overflows, and its error in half
    is at most GROWN_ERROR of what it is where rows are standardized first. Raises ExportError without a clip.
    """
    if not clips:
        raise ExportError("no clip was given to measure ranges on", fix="give at least one clip")
    ranges: dict[str, TensorRange] = {}
    errors: dict[str, list[float]] = {}  # of each layer, squared: standardized first, then behind
    with _observing(network, ranges), torch.no_grad():
        for number, clip in enumerate(clips):
            with _comparing(network, errors) if number < COMPARED_CLIPS else nullcontext():
                network(clip)
    parameters = (TensorRange(name, *_extremes(value)) for name, value in network.named_parameters())
    dividing = frozenset(name for name, (first, behind) in errors.items() if behind <= GROWN_ERROR**2 * first)
    return HalfFindings(_find_beyond(parameters), _find_beyond(ranges.values()), dividing)


def _find_beyond(ranges: Iterable[TensorRange]) -> tuple[TensorRange, ...]:
    return tuple(one for one in ranges if one.overflows or one.vanishes)


@contextmanager
def _comparing(network: nn.Module, errors: dict[str, list[float]]) -> Iterator[None]:
    """While the block runs, add to `errors` what each standardizing layer would lose in half, in both orders."""

    def measure(name: str, layer: StandardizingLinear, x: Tensor) -> None:
        rows = x[:: math.ceil(len(x) / SAMPLED_ROWS)]
        found = errors.setdefault(name, [0.0, 0.0])
        for index, error in enumerate(_half_errors(layer, rows)):
            found[index] += error

    handles = [
        module.register_forward_pre_hook(lambda layer, inputs, name=name: measure(name, layer, inputs[0]))
        for name, module in network.named_modules()
        if isinstance(module, StandardizingLinear)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _half_errors(layer: StandardizingLinear, rows: Tensor) -> tuple[float, float]:
    """The squared error of the layer in half precision on float32 rows: standardized first, and behind the product.

    Sums are float32, as tensor cores keep them; what overflows is an infinite error.
    """
    exact = layer.forward(rows)  # without its hooks, of which this is one
    halves = _round_half(rows)
    bias = _round_half(layer.bias)
    first = _round_half(_round_half(standardize(halves)) @ _round_half(layer.weight).t() + bias)
    product = _round_half(halves @ _round_half(centre_rows(layer.weight.double()).float()).t())
    behind = _round_half(_round_half(product * _round_half(_deviation_factor(halves))) + bias)
    first_error, error = (float((found - exact).square().sum()) for found in (first, behind))
    return first_error, error if math.isfinite(error) else math.inf


def _deviation_factor(rows: Tensor) -> Tensor:
    """One over the standard deviation of each row, as LayerNorm divides by it: (rows, channels) -> (rows, 1)."""
    centred = rows - rows.mean(dim=-1, keepdim=True)
    return (centred.square().mean(dim=-1, keepdim=True) + LAYER_NORM_EPSILON).rsqrt()


def _round_half(values: Tensor) -> Tensor:
    return values.half().float()


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
