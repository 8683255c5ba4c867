"""Distillation: a network that costs less, and answers as the whole one does, from videos without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import OptionError
from ..core.extras import needing_extra
from ..core.files import require_writable
from ..core.reporter import SILENT, Notify, Progress, Reporter, no_notes, no_progress
from ..core.selection import parse_selections
from .clips import Clips
from .load import Network

if TYPE_CHECKING:
    from .distillation import Student

SUFFIX = ".safetensors"
MOST_STEPS, MOST_BATCH = 10_000_000, 4096


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """Options of a distillation; each of `selections` with each of `frames` is a student of its own.

    A student works on the tokens that `selections` (`T0:0.5,S2:0.74`) keep, or on clips of so many `frames` of
    `stride`, by default over the same time, or both. It learns for `steps` of `batch` clips, at most `budget_s`
    seconds, first its selectors, then, unless `freeze`, all of it at the learning rate `rate`. `temperature` softens
    the teacher's answers. The same `seed` draws the same clips and the same noise.
    """

    selections: Sequence[str] = ()
    frames: Sequence[int] = ()
    stride: int | None = None
    steps: int = 600
    batch: int = 8
    budget_s: float | None = None
    freeze: bool = False
    rate: float = 1e-4
    temperature: float = 2.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Distilled:
    """The students of a run. `is_first` is True in the one of several processes that reports."""

    students: tuple[Student, ...]
    is_first: bool = True


@dataclass(frozen=True, slots=True)
class _Planned:
    """A student before it is trained, and the file that it goes to."""

    network: Network
    path: Path


def distill(
    network: Network,
    clips: Clips,
    output: Path | str | None = None,
    options: DistillOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Distilled:
    """Train networks that cost less to answer as `network` does, and write each as a checkpoint.

    `output` is the file, or the folder of several students; beside a file lie its curve, as .csv and .svg, and, until
    it is done, the state from which the same call goes on. A tenth of the videos is held out; the weights that come
    closest to the teacher there are kept, also when the run is interrupted. Labels of the clips are learned besides
    where there are any. Processes that torchrun started share each batch. Raises OptionError, SelectionError,
    CheckpointError for a network that selects already, ClipError, LabelError and OutputError.
    """
    options = options or DistillOptions()
    _check_options(options)
    planned = _plan_students(network, options, output)
    with needing_extra("onnx"):
        from ..exporter.distillation.processes import join_processes
        from .distillation import name_state, open_job
    with join_processes() as processes:
        reporter = Reporter(progress, notify) if processes.is_first else SILENT
        for one in planned if processes.is_first else ():
            require_writable(one.path)
        folder = planned[0].path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with open_job(network, clips, options, processes, folder) as job:
            students = tuple(job.train(one.network, one.path, reporter) for one in planned)
        for one in planned if processes.is_first else ():
            name_state(one.path).unlink(missing_ok=True)
    return Distilled(students, processes.is_first)


def _check_options(options: DistillOptions) -> None:
    """Raise OptionError for values that cannot be."""
    if not options.selections and not options.frames:
        raise OptionError(
            "nothing is to be distilled: neither selections nor fewer frames", fix="give --stts T0:0.5 or --frames 16"
        )
    if not (1 <= options.steps <= MOST_STEPS and 1 <= options.batch <= MOST_BATCH):
        raise OptionError(f"{options.steps} steps of {options.batch} clips", fix="take at least 1 of each")
    if min(options.rate, options.temperature) <= 0 or (options.budget_s is not None and options.budget_s <= 0):
        raise OptionError("a rate, temperature or budget that is not above 0", fix="leave it out")
    if options.freeze and not options.selections:
        raise OptionError("with frozen weights fewer frames learn nothing", fix="leave --freeze out, or give --stts")


def _plan_students(network: Network, options: DistillOptions, output: Path | str | None) -> list[_Planned]:
    """Make every student, which refuses what its grids cannot take, and name its file."""
    with needing_extra("onnx"):
        from ..exporter.distillation.student import make_student
    given = network.weights.checkpoint
    stem = "dualformer-demo" if network.weights.demo or given is None else given.stem
    own = network.module.config
    planned = []
    for frames, text in product(options.frames or (None,), options.selections or ("",)):
        clip = network.with_clips(frames, options.stride).module.config.preprocessing
        selections = parse_selections(text) if text else ()
        made = make_student(network.module, selections, clip.frames, clip.stride, options.seed)
        own.preprocessing.find_frames(clip)  # refuses others than the teacher's
        parts = [f"{clip.frames}x{clip.stride}"] if clip != own.preprocessing else []
        name = "-".join((stem, *parts, *(str(one).replace(":", "_") for one in selections)))
        planned.append(_Planned(replace(network, module=made), Path(f"{name}{SUFFIX}")))
    return _place_files(planned, None if output is None else Path(output))


def _place_files(planned: list[_Planned], output: Path | None) -> list[_Planned]:
    """The students with the files that they go to: `output`, or their names in it where it is a folder."""
    is_file = output is not None and output.suffix.lower() == SUFFIX
    if is_file and len(planned) > 1:
        raise OptionError(f"{len(planned)} students do not go into one file", fix="give a folder to --output")
    if output is not None and output.suffix.lower() in (".pth", ".pt"):
        raise OptionError(f"{output.name}: a distilled checkpoint is {SUFFIX}", fix=f"call it {output.stem}{SUFFIX}")
    if is_file and output is not None:
        return [replace(planned[0], path=output)]
    return [replace(one, path=(output or Path()) / one.path) for one in planned]
