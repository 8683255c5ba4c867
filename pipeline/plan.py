"""Show what the installed TensorRT makes of ONNX files: `dualexport plan` and `dualexport.plan`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..core.choices import DeviceName, Precision, choose
from ..core.errors import ManifestError, OptionError
from ..core.files import hash_file, staged_path
from ..core.manifest import FILE_NAME, read_manifest
from ..core.plain import to_json
from ..core.reading import is_file
from ..core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ..graphs.batch import fixed_file
from ..graphs.work import count_work
from ..report.bench import Verdict as MeasuredVerdict
from ..runtimes.plans.attribution import make_plan
from ..runtimes.plans.devices import DEVICES, LatencyEstimate, estimate
from ..runtimes.plans.plan import EnginePlan
from ..runtimes.plans.precision import require_precision
from ..runtimes.plans.verdict import Verdict, judge
from .latency import read_verdicts


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """`devices` have the latency on them estimated; `save` is a file that the plans are written to as JSON.

    `batch` is what files of a range of batches are planned with, by default the largest.
    """

    devices: Sequence[DeviceName | str] = ()
    save: Path | str | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of each file, with its estimate on each device that was named.

    `verdicts` say for each device whether INT8 is worth it there, where one of two files is FP16 and the other INT8;
    `measured` what `bench` measured of an INT8 file among them.
    """

    plans: tuple[EnginePlan, ...]
    estimates: tuple[tuple[LatencyEstimate, ...], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    measured: tuple[MeasuredVerdict, ...] = ()

    def document(self) -> dict[str, Any]:
        """The plans as a JSON document, every layer."""
        return {
            **({"verdicts": self.verdicts} if self.verdicts else {}),
            **({"measured": self.measured} if self.measured else {}),
            "plans": [
                {**made.document(), **({"estimates": [one.document() for one in estimates]} if estimates else {})}
                for made, estimates in zip_longest(self.plans, self.estimates)
            ],
        }

    def require(self, precision: Precision | str) -> None:
        """Raise EngineError when less of the last file became `precision` than its graph asks for."""
        require_precision(self.plans[-1], choose(Precision, precision, "precision"))


def plan(
    models: Path | str | Sequence[Path | str],
    options: PlanOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Planned:
    """Compile one ONNX file or several with the TensorRT that is installed, as strongly typed; needs no GPU.

    Raises PlanError when a file cannot be read or compiled, MissingDependencyError without a TensorRT, OptionError and
    OutputError.
    """
    options = options or PlanOptions()
    paths = [Path(model) for model in ((models,) if isinstance(models, (str, Path)) else models)]
    if not paths:
        raise OptionError("no model was given", fix="give at least one ONNX file")
    names = dict.fromkeys(choose(DeviceName, device, "device") for device in options.devices)
    devices = [DEVICES[name] for name in names]
    with ExitStack() as staging:
        save = None if options.save is None else staging.enter_context(staged_path(Path(options.save)))
        plans = tuple(plan_onnx(path, options.batch, progress=progress) for path in paths)
        estimates = tuple(tuple(estimate(made, device) for device in devices) for made in plans) if devices else ()
        pair = _find_pair(plans)
        verdicts = tuple(judge(*pair, device) for device in devices) if pair else ()
        planned = Planned(plans, estimates, verdicts, _read_measured(paths, Reporter(progress, notify)))
        if save is not None:
            save.write_text(to_json(planned.document()), encoding="utf-8")
    return planned


def plan_onnx(path: Path, batch: int | None = None, *, progress: Progress = no_progress) -> EnginePlan:
    """The plan that the installed TensorRT makes of the ONNX file at `path`; needs no GPU.

    A file of a range of batches is planned with `batch`, by default the largest, as if it were a file of that one.
    Raises PlanError when the file cannot be read or compiled, GraphError for a batch that it does not take.
    """
    from ..runtimes.tensorrt.compile import compile_onnx

    with fixed_file(path, batch) as (fixed, model):
        work = count_work(model)
        return make_plan(path.name, compile_onnx(fixed, progress=progress), work)


def _find_pair(plans: Sequence[EnginePlan]) -> tuple[EnginePlan, EnginePlan] | None:
    """The FP16 and the INT8 or FP8 plan, given in either order; None for anything else."""
    eight = {precision.value for precision in Precision if precision.is_eight_bit}
    asked = {not eight.isdisjoint(made.asked_shares): made for made in plans}
    if len(plans) != 2 or len(asked) != 2 or Precision.FP16.value not in asked[False].asked_shares:
        return None
    return asked[False], asked[True]


def _read_measured(models: Sequence[Path], reporter: Reporter) -> tuple[MeasuredVerdict, ...]:
    """The verdict of `bench` on an INT8 file among the models, where a manifest lists it."""
    folder = models[-1].parent
    if not is_file(folder / FILE_NAME):
        return ()
    try:
        return read_verdicts(read_manifest(folder), [hash_file(model) for model in models], reporter)
    except ManifestError:
        return ()
