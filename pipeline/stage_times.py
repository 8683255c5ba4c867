"""The time of each stage of a network in a graph: estimated for a device from its plan, or measured on the GPU here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import DeviceName
from ..core.errors import PlanError, QuantizationError
from ..core.reporter import Reporter
from ..graphs.batch import fixed_file
from ..graphs.work import count_work
from ..runtimes.plans.attribution import make_plan
from ..runtimes.plans.devices import DEVICES, estimate
from .plan import plan_onnx

if TYPE_CHECKING:
    from ..calibration.placement import Placement
    from ..runtimes.tensorrt.gpu_here import GpuHere

ESTIMATED_GAIN = 1e-3  # of FP16's time: what a group saves at the least, since its rounding costs accuracy for certain
MEASURED_GAIN = 5e-3  # the same where times are measured, which differ from one build of an engine to the next
KNOWN_SHARE = 0.5  # of a measured time must be in layers that the plan knows, before it says anything of stages
_STAGE = re.compile(r"blocks\.(\d+)\.")

Write = Callable[[frozenset[str]], Path]  # writes the graph with these layers in 8 bits


@dataclass(frozen=True, slots=True)
class EstimatedTimes:
    """Times by the published peaks of a device of the table, for the plans of the TensorRT that is installed."""

    device: DeviceName
    least_gain = ESTIMATED_GAIN

    def time_stages(self, model: Path) -> dict[str, float]:
        """Milliseconds by stage of the ONNX file at `model`."""
        plan = plan_onnx(model)
        times = estimate(plan, DEVICES[self.device]).layers_ms
        return sum_stages(zip((layer.origins for layer in plan.layers), times, strict=True))

    def confirm(self, placement: Placement, write: Write) -> Placement:  # noqa: ARG002  # as MeasuredTimes has it
        """The placement as it is: the sum of the stages is the estimate."""
        return placement


@dataclass(frozen=True, slots=True)
class MeasuredTimes:
    """Times by TensorRT's profiler, of engines that are built on the GPU here."""

    gpu: GpuHere
    reporter: Reporter
    least_gain = MEASURED_GAIN

    def time_stages(self, model: Path) -> dict[str, float]:
        """Milliseconds by stage of the ONNX file at `model`; raises PlanError for layers that its plan does not know.

        A range of batches is measured with the largest.
        """
        engine = model.with_suffix(".engine")
        with fixed_file(model, None) as (fixed, graph):
            compilation = self.gpu.build(fixed, engine, self.reporter)
            plan = make_plan(model.name, compilation, count_work(graph))
        times, origins = self.gpu.time_layers(engine), {layer.name: layer.origins for layer in plan.layers}
        known = sum(milliseconds for name, milliseconds in times if name in origins)
        if known < KNOWN_SHARE * sum(milliseconds for _, milliseconds in times):
            raise PlanError(
                f"{compilation.compiler} times layers that its {plan.source} does not name: {times[0][0]}",
                fix="name a device of the table instead of `here`, to go by estimates",
            )
        return sum_stages((origins.get(name, ()), milliseconds) for name, milliseconds in times)

    def confirm(self, placement: Placement, write: Write) -> Placement:
        """The placement with the times of whole engines, FP16 and this, in turns.

        A sum of layers that were waited for one by one is not yet a latency. Raises QuantizationError where the choice
        is no faster than FP16.
        """
        engines = []
        for name, chosen in (("rest", frozenset[str]()), ("placed", placement.layers)):
            model = write(chosen)
            engines.append(model.with_name(f"{name}.engine"))
            with fixed_file(model, None) as (fixed, _):
                self.gpu.build(fixed, engines[-1], self.reporter)
        rest_ms, placed_ms = self.gpu.compare(engines[0], engines[1], self.reporter)
        name = self.gpu.device.name
        if placed_ms > rest_ms * (1 - self.least_gain):
            raise QuantizationError(
                f"8 bits do not pay on this {name}: {placed_ms:.3f} ms measured where they seemed to, {rest_ms:.3f} ms "
                "without any",
                fix="keep the FP16 file, or ask for --place free or all",
            )
        return replace(placement, rest_ms=rest_ms, placed_ms=placed_ms, gpu=name)


def sum_stages(layers: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """The times of layers, given with the ONNX nodes that each is of, in order, by stage.

    A layer that names no stage counts to that of the one before it.
    """
    stage, times = "", defaultdict[str, float](float)
    for origins, milliseconds in layers:
        named = [found[1] for origin in origins if (found := _STAGE.match(origin))]
        stage = named[-1] if named else stage
        times[stage] += milliseconds
    return dict(times)
