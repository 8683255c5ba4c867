"""Choose the linear layers that become INT8 or FP8: by a rule, or by what pays on a device."""

from __future__ import annotations

import itertools
import tempfile
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

    from ..calibration.linear_layers import LinearLayer
    from ..calibration.placement import Placement
    from .stage_times import EstimatedTimes, MeasuredTimes

HERE = "here"  # the GPU of this machine, as a device to place for


@dataclass(frozen=True, slots=True)
class Target:
    """The choice of layers to quantize: by a rule, or, with Place.DEVICE, by what pays on `device`; None is here."""

    place: Place
    device: DeviceName | None = None

    @classmethod
    def choose(cls, place: Place | str | None, device: DeviceName | str | None, base: Precision) -> Target:
        """The target that options name; by default what is free, and everything in a file for CPUs.

        Raises OptionError for options that contradict each other.
        """
        wanted = None if place is None else choose(Place, place, "place")
        if device is None:
            if wanted is Place.DEVICE:
                raise OptionError("placing by device needs one", fix="give --device, or --place free or all")
            return cls(wanted or (Place.FREE if base is Precision.FP16 else Place.ALL))
        target = cls(Place.DEVICE, None if device == HERE else choose(DeviceName, device, f"device, nor {HERE!r}"))
        if wanted not in (None, Place.DEVICE):
            raise OptionError(
                f"--place {wanted.value} asks no device, and --device {target.name} names one", fix="give one of both"
            )
        if base is not Precision.FP16:
            raise OptionError("layers are placed by device in files for GPUs", fix="leave --device or --base out")
        return target

    def require(self, precision: Precision) -> None:
        """Ask for what the search will need: a TensorRT to plan with, and a device that computes in `precision`.

        Raises MissingDependencyError, PlanError or EngineError for FP8 on a device without it, CudaError without a GPU.
        """
        if self.place is not Place.DEVICE:
            return
        if self.device is None:
            from ..runtimes.tensorrt.gpu_here import GpuHere

            GpuHere(Path()).require(precision)
        else:
            from ..runtimes.plans.devices import DEVICES
            from ..runtimes.tensorrt import library  # noqa: F401

            DEVICES[self.device].peak_tops(precision)

    def open_timer(self, folder: Path, reporter: Reporter) -> EstimatedTimes | MeasuredTimes:
        """Times stages on the device; here, with the kernels' timings that are kept in `folder`."""
        from .stage_times import EstimatedTimes, MeasuredTimes

        if self.device is not None:
            return EstimatedTimes(self.device)
        from ..runtimes.tensorrt.gpu_here import GpuHere

        return MeasuredTimes(GpuHere(folder), reporter)

    @property
    def name(self) -> str:
        """`all`, `free`, `here`, or the device's name."""
        if self.place is not Place.DEVICE:
            return str(self.place.value)
        return HERE if self.device is None else self.device.value


def place_layers(
    base: Artifact, allowed: Collection[str], target: Target, precision: Precision, reporter: Reporter
) -> Placement:
    """Choose among the linear layers `allowed` of the folded graph `base`: all, what is free, or what pays on a device.

    For a device one choice after the other is compiled and timed, and scales play no part in it: of the table, by
    estimates of the installed TensorRT's plans, without a GPU; here, as measured. Raises QuantizationError where no
    layer is worth it there, MissingDependencyError without a TensorRT.
    """
    from ..calibration.linear_layers import find_layers
    from ..calibration.placement import Placement, free_layers, search_placement
    from ..graphs.load import load_graph

    model = load_graph(base.path)
    layers = find_layers(model)
    choices = [layer for layer in layers if layer.name in allowed]
    if target.place is not Place.DEVICE:
        chosen = free_layers(choices) if target.place is Place.FREE else frozenset(allowed)
        if not chosen:
            raise QuantizationError("every linear layer is kept: nothing is left to quantize", fix="keep fewer layers")
        return Placement(chosen)
    timer = target.open_timer(base.path.parent, reporter)
    with tempfile.TemporaryDirectory() as folder:
        trials = _Trials(model, layers, precision, Path(folder) / "placed.onnx")
        tried = itertools.count(1)

        def time_stages(chosen: frozenset[str]) -> dict[str, float]:
            reporter(f"placing {precision.value.upper()} for {target.name}: plan {next(tried)}")
            return timer.time_stages(trials.write(chosen))

        return timer.confirm(search_placement(choices, time_stages, timer.least_gain), trials.write)


@dataclass(frozen=True, slots=True)
class _Trials:
    """The graph with any choice of its layers in 8 bits, in one file after the other."""

    model: ModelProto
    layers: tuple[LinearLayer, ...]
    precision: Precision
    path: Path

    def write(self, chosen: frozenset[str]) -> Path:
        """Write the graph with these layers in 8 bits, by scales that were measured on nothing."""
        import onnx

        from ..calibration.calibrate import draft_calibration
        from ..calibration.qdq import quantize_graph

        draft = draft_calibration(self.layers, self.precision)
        kept = frozenset(layer.name for layer in self.layers) - chosen
        onnx.save(quantize_graph(self.model, self.layers, draft, kept) if chosen else self.model, self.path)
        return self.path
