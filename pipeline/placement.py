"""Choose the linear layers that become INT8 or FP8: by a rule, or by what compiled plans cost on a device."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import DeviceName, Place, Precision, choose
from ..core.errors import OptionError, QuantizationError
from ..core.reporter import Reporter
from ..core.types import Artifact

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..calibration.placement import Placement
    from ..runtimes.plans.devices import Device
    from ..runtimes.plans.plan import EnginePlan

_STAGE = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Target:
    """The choice of layers to quantize: by a rule, or, with Place.DEVICE, by what pays on `device`."""

    place: Place
    device: DeviceName | None = None

    @classmethod
    def choose(cls, place: Place | str | None, device: DeviceName | str | None, base: Precision) -> Target:
        """The target that options name; by default what is free, and everything in a file for CPUs.

        Raises OptionError for options that contradict each other.
        """
        wanted = None if place is None else choose(Place, place, "place")
        named = None if device is None else choose(DeviceName, device, "device")
        if named is None:
            if wanted is Place.DEVICE:
                raise OptionError("placing by device needs one", fix="give --device, or --place free or all")
            return cls(wanted or (Place.FREE if base is Precision.FP16 else Place.ALL))
        if wanted not in (None, Place.DEVICE):
            raise OptionError(
                f"--place {wanted.value} asks no device, and --device {named.value} names one", fix="give one of both"
            )
        if base is not Precision.FP16:
            raise OptionError("layers are placed by device in files for GPUs", fix="leave --device or --base out")
        return cls(Place.DEVICE, named)

    def require(self, precision: Precision) -> None:
        """Ask for what the search will need: a TensorRT to plan with, and a device that computes in `precision`.

        Raises MissingDependencyError, and PlanError for FP8 on a device without it.
        """
        if self.device is not None:
            from ..runtimes.plans.devices import DEVICES
            from ..runtimes.tensorrt import library  # noqa: F401

            DEVICES[self.device].peak_tops(precision)

    @property
    def name(self) -> str:
        """`all`, `free`, or the device's name."""
        return self.device.value if self.device else self.place.value


def place_layers(
    base: Artifact, allowed: Collection[str], target: Target, precision: Precision, reporter: Reporter
) -> Placement:
    """Choose among the linear layers `allowed` of the folded graph `base`: all, what is free, or what pays on a device.

    For a device the installed TensorRT plans one choice after the other, without a GPU, and scales play no part in it.
    Raises QuantizationError where no layer is worth it there, MissingDependencyError without a TensorRT.
    """
    from ..calibration.calibrate import draft_calibration
    from ..calibration.linear_layers import find_layers
    from ..calibration.placement import Placement, StageTimes, free_layers, search_placement
    from ..calibration.qdq import quantize_graph
    from ..graphs.load import load_graph

    model = load_graph(base.path)
    layers = find_layers(model)
    choices = [layer for layer in layers if layer.name in allowed]
    if target.device is None:
        chosen = free_layers(choices) if target.place is Place.FREE else frozenset(allowed)
        if not chosen:
            raise QuantizationError("every linear layer is kept: nothing is left to quantize", fix="keep fewer layers")
        return Placement(chosen)
    from ..runtimes.plans.devices import DEVICES

    device, draft, plans = DEVICES[target.device], draft_calibration(layers, precision), 0
    every_layer = frozenset(layer.name for layer in layers)

    def time_stages(chosen: frozenset[str]) -> StageTimes:
        nonlocal plans
        plans += 1
        reporter(f"placing {precision.value.upper()} for {target.name}: plan {plans}")
        return _time_stages(quantize_graph(model, layers, draft, every_layer - chosen) if chosen else model, device)

    return search_placement(choices, time_stages)


def _time_stages(model: ModelProto, device: Device) -> dict[str, float]:
    import onnx

    from ..runtimes.plans.devices import estimate
    from .plan import plan_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "placed.onnx"
        onnx.save(model, path)
        plan = plan_onnx(path)
    return sum_stages(plan, estimate(plan, device).layers_ms)


def sum_stages(plan: EnginePlan, layers_ms: Collection[float]) -> dict[str, float]:
    """The times of a plan's layers by stage; a layer that names none counts to the stage of the one before it."""
    stage, times = "", defaultdict[str, float](float)
    for layer, milliseconds in zip(plan.layers, layers_ms, strict=True):
        named = [found[1] for origin in layer.origins if (found := _STAGE.match(origin))]
        stage = named[-1] if named else stage
        times[stage] += milliseconds
    return dict(times)
