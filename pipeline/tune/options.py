"""The options of a search, and what they ask for: networks, forms, limits, and where all that is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.choices import DeviceName, Place, Precision, Runtime, choose
from ...core.errors import OptionError
from ...core.extras import require_libraries
from ...core.reporter import Reporter
from ...exporter.demo_model import TRAINED_SELECTION
from ...runtimes.plans.devices import DEVICES
from ..clips import Clips
from ..verify.prerequisites import require_ray
from ..verify.spread import Spread
from .candidates import Form, NetworkChoice, list_forms
from .latency import require_planner
from .verdict import Budget

HERE = "here"
POINTS = 100.0


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """The question: which networks, on which device, within which limits; and how the answer is come by.

    Candidates are all `checkpoints` (without any: the demo model, whole and with half of its frames), as they are, with
    each of `selections`, and with clips of each number of `frames`; also keeping each share of the frames in `distill`,
    which those that could win learn from the videos `train`; in each of `precisions`, by default all that the device
    has; 8 bits in each of `places`, and for each of `target_agreements` in all layers but the worst, calibrated on
    `calibration`. `device` is one of the table, whose latency is
    estimated, or "here", where `runtime` is measured for `seconds` a candidate. `latency_ms` is of one inference of
    `batch` clips, `max_drop` in points of accuracy against the first checkpoint in FP32; one of both is needed. With
    `cascade` two networks as one are candidates too, whose latency is a mean. `labels` are class names. `workers`
    spread the videos over processes, or over the Ray cluster at `ray`. `reports` (.html, .md, .json) are written at the
    end.
    """

    device: DeviceName | str = HERE
    latency_ms: float | None = None
    max_drop: float | None = None
    checkpoints: Sequence[Path | str] = ()
    selections: Sequence[str] = ()
    frames: Sequence[int] = ()
    distill: Sequence[float] = ()
    train: Clips | None = None
    precisions: Sequence[Precision | str] = ()
    places: Sequence[Place | str] = tuple(Place)
    target_agreements: Sequence[float] = ()
    calibration: Clips | None = None
    labels: Path | str | None = None
    batch: int = 1
    cascade: bool = False
    runtime: Runtime | str = Runtime.ONNX
    seconds: float = 2.0
    workers: int | None = None
    ray: str | None = None
    reports: Sequence[Path | str] = ()


@dataclass(frozen=True, slots=True)
class TunePlan:
    """The options, chosen and checked; `device` is None where latency is measured here."""

    options: TuneOptions
    device: DeviceName | None
    runtime: Runtime
    budget: Budget
    choices: tuple[NetworkChoice, ...]
    forms: tuple[Form, ...]
    spread: Spread
    reports: tuple[Path, ...]

    @property
    def title(self) -> str:
        """The device in words."""
        return "this machine" if self.device is None else DEVICES[self.device].title


def plan_search(options: TuneOptions, reporter: Reporter) -> TunePlan:
    """Read the options, and ask for the libraries that they need.

    Raises OptionError for options that do not go together, and MissingDependencyError.
    """
    device = None if options.device == HERE else choose(DeviceName, options.device, "device, nor here")
    runtime = choose(Runtime, options.runtime, "runtime")
    _check(options, device, runtime)
    require_libraries("tune", "torch", "onnxruntime")
    if device is not None or runtime is Runtime.TENSORRT:
        require_planner()
    if options.ray is not None:
        require_ray()
    return TunePlan(
        options=options,
        device=device,
        runtime=runtime,
        budget=Budget(options.latency_ms, None if options.max_drop is None else options.max_drop / POINTS),
        choices=_list_choices(options),
        forms=_choose_forms(options, device, runtime, reporter),
        spread=Spread(options.workers, options.ray),
        reports=tuple(map(Path, options.reports)),
    )


def _check(options: TuneOptions, device: DeviceName | None, runtime: Runtime) -> None:
    if options.latency_ms is None and options.max_drop is None:
        raise OptionError("there is no limit to choose by", fix="give --latency, --max-drop or both")
    if options.latency_ms is not None and not options.latency_ms > 0:
        raise OptionError(f"a latency of {options.latency_ms:g} ms", fix="give milliseconds above 0")
    if options.max_drop is not None and not -POINTS <= options.max_drop <= POINTS:
        raise OptionError(f"a drop of {options.max_drop:g} points", fix="give points of accuracy: 1 is 1%")
    if options.distill and options.train is None:
        raise OptionError("there is nothing to distil from", fix="give --train, other videos than --clips")
    if not all(0 < one <= 1 for one in options.target_agreements):
        raise OptionError("an agreement is a share of clips", fix="give numbers above 0, up to 1")
    if runtime is Runtime.TORCH:
        raise OptionError("the PyTorch network is no candidate", fix="choose onnx or tensorrt")
    if device is not None and runtime is Runtime.TENSORRT:
        raise OptionError(
            f"--runtime tensorrt measures here, and the latency on {device.value} is estimated",
            fix="give --device here, or leave --runtime out",
        )
    if options.batch < 1 or options.seconds <= 0:
        raise OptionError(f"a batch of {options.batch}, {options.seconds:g} seconds", fix="give numbers above 0")


def _list_choices(options: TuneOptions) -> tuple[NetworkChoice, ...]:
    """Each checkpoint alone, with each selection and with each number of frames."""
    checkpoints: list[Path | None] = [*map(Path, options.checkpoints)] or [None]
    selections = tuple(options.selections) or (() if options.checkpoints else (TRAINED_SELECTION,))
    return tuple(
        choice
        for checkpoint in checkpoints or [None]
        for choice in (
            NetworkChoice(checkpoint),
            *(NetworkChoice(checkpoint, selections=one) for one in selections),
            *(NetworkChoice(checkpoint, frames=one) for one in options.frames),
            *(NetworkChoice(checkpoint, selections=f"T0:{one:g}", distilled=True) for one in options.distill),
        )
    )


def _choose_forms(
    options: TuneOptions, device: DeviceName | None, runtime: Runtime, reporter: Reporter
) -> tuple[Form, ...]:
    """The precisions asked for, or all that there are; without calibration clips no 8 bits."""
    on_cpu = device is None and runtime is Runtime.ONNX
    asked = tuple(choose(Precision, one, "precision") for one in options.precisions)
    has_fp8 = device is not None and DEVICES[device].fp8_tops is not None
    usual = (
        Precision.FP32,
        *(() if on_cpu else (Precision.FP16,)),
        *((Precision.FP8,) if has_fp8 else ()),
        Precision.INT8,
    )
    precisions = tuple(dict.fromkeys(asked or usual))
    if options.calibration is None and any(one.is_eight_bit for one in precisions):
        if asked:
            raise OptionError("8 bits are calibrated on clips", fix="give --calibration, other videos than --clips")
        reporter.note("no --calibration given: no candidate is in 8 bits")
        precisions = tuple(one for one in precisions if not one.is_eight_bit)
    if on_cpu and Precision.FP8 in precisions:
        raise OptionError("FP8 is for GPUs", fix="leave fp8 out, or name a device that has it")
    places = tuple(choose(Place, one, "place") for one in options.places)
    placed = device or (None if on_cpu else HERE)
    base = Precision.FP32 if on_cpu else Precision.FP16
    return list_forms(precisions, places, tuple(dict.fromkeys(options.target_agreements)), placed, base)
