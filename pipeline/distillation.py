"""The job of a distillation: its clips and its teacher, with which one student after the other is trained."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clips.draws import ClipDraws, ListedClips, split_clips
from ..clips.read_ahead import ReadAhead
from ..clips.source import ClipSource
from ..core.class_names import find_class
from ..core.errors import LabelError, OptionError
from ..core.files import staged_set
from ..core.logit_store import LogitStore, name_store
from ..core.reporter import Reporter
from ..core.selection import write_selections
from ..exporter.distillation.processes import Processes
from ..exporter.distillation.schedule import Schedule
from ..exporter.distillation.state import StateFile, pack_tensors
from ..exporter.distillation.teacher import Teacher
from ..exporter.distillation.trainer import Course, Distillation, Feed, Point
from ..exporter.distilled import RECORD_FORMAT, DistilledRecord
from ..report.curve import Panel, draw_curves
from .clips import Clips
from .load import Network

if TYPE_CHECKING:
    from .distill import DistillOptions

SELECTING = 0.25  # of a run, where there are selectors
SELECTOR_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Student:
    """One distilled network: its checkpoint, and how it compares with the teacher on clips it did not learn from.

    `agreement` is the share of `held_out` clips with the teacher's best class. `curve` has the measurements in order.
    """

    path: Path
    selections: str
    frames: int
    stride: int
    held_out: int
    agreement: float
    loss: float
    steps: int
    seconds: float
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class DistillJob:
    """The teacher, the clips to learn from and to measure on, and the processes at work.

    `find_class` knows the classes of labels.
    """

    network: Network
    teacher: Teacher
    training: ListedClips
    held_out: ListedClips
    find_class: Callable[[str], int]
    options: DistillOptions
    processes: Processes

    def train(self, student: Network, path: Path, reporter: Reporter) -> Student:
        """Train a student, and write its checkpoint and curve; what an interrupted run left is gone on with.

        Its state stays, so that a run of several students does not begin again with the first.
        """
        reporter(f"training {path.name}")
        config, processes, options = student.module.config, self.processes, self.options
        draws = ClipDraws(self.training, options.batch, options.seed, processes.part(options.batch))
        held_out = self.held_out.part(slice(processes.rank, None, processes.count))
        run = Distillation(self.teacher, student.module, self._plan_course(student), processes)
        state = StateFile(name_state(path), self._describe(student))
        if state.restore(run):
            reporter.note(f"going on at step {run.step} of {options.steps}")
        feed = Feed(draws.read_from, ReadAhead(held_out), draws.steps_a_pass, self.find_class)
        try:
            run.run(feed, reporter, state.save_if_due if processes.is_first else lambda _: None)
        except KeyboardInterrupt:
            if processes.is_first and run.curve:
                self._write(student, run, path)
                reporter.note(f"interrupted; the best weights so far are in {path}")
            raise
        if processes.is_first:
            self._write(student, run, path)
            state.save(run)
        for skipped in {**self.training.skipped, **held_out.skipped}.values():
            reporter.note(f"skipped {skipped.reason}")
        best = run.best_point
        return Student(
            path=path,
            selections=write_selections(config.selections),
            frames=config.frames,
            stride=config.stride,
            held_out=len(self.held_out),
            agreement=best.agreement,
            loss=best.loss,
            steps=run.step,
            seconds=run.seconds,
            curve=tuple(run.curve),
        )

    def _plan_course(self, student: Network) -> Course:
        options = self.options
        selecting = (1.0 if options.freeze else SELECTING) if student.module.config.selections else 0.0
        schedule = Schedule(selecting, SELECTOR_RATE, options.rate)
        return Course(options.steps, options.batch, options.seed, options.temperature, schedule, options.budget_s)

    def _describe(self, student: Network) -> dict[str, Any]:
        """All that a run's steps depend on: an interrupted one goes on where these are the same."""
        config, options = student.module.config, self.options
        names = "\n".join(f"{video.name} {number} {video.label}" for video, number in self.training.places)
        return {
            "teacher": self.network.weights.sha256 or self.network.weights.seed,
            "selections": write_selections(config.selections),
            "clips": [config.frames, config.stride],
            "videos": sha256(names.encode(errors="surrogatepass")).hexdigest(),
            "steps": [options.steps, options.batch, options.budget_s],
            "rates": [options.rate, options.temperature, options.freeze],
            "seed": options.seed,
        }

    def _write(self, student: Network, run: Distillation, path: Path) -> None:
        """Write the best weights so far, and the curve; all of it or nothing."""
        config = student.module.config
        labels, teacher = self.network.labels, self.network.weights.sha256
        selections = write_selections(config.selections)
        record = DistilledRecord(RECORD_FORMAT, selections, config.frames, config.stride, teacher, labels)
        content = pack_tensors(run.best, record.to_metadata())
        with staged_set(path.parent) as staged:
            staged.path(path.name).write_bytes(content)
            staged.path(f"{path.stem}.csv").write_text(write_curve(run.curve), encoding="utf-8")
            staged.path(f"{path.stem}.svg").write_text(draw_curve(run.curve), encoding="utf-8")


@contextmanager
def open_job(
    network: Network, clips: Clips, options: DistillOptions, processes: Processes, folder: Path
) -> Iterator[DistillJob]:
    """Open the clips and the store of the teacher's answers, which stays in `folder` until all students are done."""
    if options.batch % processes.count:
        raise OptionError(
            f"a batch of {options.batch} clips for {processes.count} processes",
            fix=f"give --batch {options.batch + -options.batch % processes.count}",
        )
    source = clips.open(network.module.config.preprocessing)
    classes = number_labels(network, source)
    training, held_out = split_clips(source)
    ClipDraws(training, options.batch, options.seed)  # refuses too few
    identity = {
        "teacher": network.weights.sha256 or network.weights.seed,
        "clips": [network.module.config.frames, network.module.config.stride],
        "process": [processes.rank, processes.count],
    }
    store = LogitStore(folder / name_store(identity, "distill"), identity)
    try:
        teacher = Teacher(network.module, store, processes.device)
        yield DistillJob(network, teacher, training, held_out, classes, options, processes)
    except BaseException:
        store.close()
        raise
    store.discard()


def name_state(path: Path) -> Path:
    """The file beside a checkpoint with the state of its training."""
    return path.with_suffix(".state")


def number_labels(network: Network, source: ClipSource) -> Callable[[str], int]:
    """The classes of the labels that the videos have. Raises LabelError for a label that is no class."""
    classes = network.module.config.classes
    for video in source.videos:
        if video.label is not None:
            try:
                find_class(video.label, network.labels, classes)
            except LabelError as error:
                fix = f"{error.fix}, or give the folder of videos, whose labels are not needed"
                raise LabelError(f"{video.where}: {error}", fix=fix) from error
    return lambda label: find_class(label, network.labels, classes)


def write_curve(curve: Sequence[Point]) -> str:
    """The measurements as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([field.name for field in fields(Point)])
    rows.writerows(astuple(point) for point in curve)
    return text.getvalue()


def draw_curve(curve: Sequence[Point]) -> str:
    """Draw the measurements as SVG."""
    trained = [(point.step, point.training_loss) for point in curve if point.step]
    loss = {"training": trained or [(0, curve[0].loss)], "held-out": [(point.step, point.loss) for point in curve]}
    agreement = {"held-out": [(point.step, 100 * point.agreement) for point in curve]}
    return draw_curves([Panel("loss", loss), Panel("agreement with the teacher, %", agreement)])
