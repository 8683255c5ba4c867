"""The training of a student: steps, measurements on held-out clips, and what a resumed run goes on from."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import ClipError, DistillError
from ...core.reporter import Reporter
from ...core.types import Clip
from ..dualformer.fast_convolution import speed_up
from ..dualformer.network import DualFormer
from ..dualformer.selectors import set_sigma
from .optimization import NO_LABEL, descend, distillation_loss, follow, make_optimizer
from .processes import Processes
from .schedule import Schedule, Stage
from .student import list_fresh, train_part
from .teacher import AT_ONCE, Teacher, to_input

MEASURED_AFTER = 200  # steps at most; a pass over the clips where that is shorter
MOST_SEED = 2**62


@dataclass(frozen=True, slots=True)
class Course:
    """The length and the rules of a run; `budget_s` seconds end it before its steps do, None for no such end."""

    steps: int
    batch: int
    seed: int
    temperature: float
    schedule: Schedule
    budget_s: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the curve: mean loss of the steps before it, then loss and agreement on held-out clips."""

    step: int
    seconds: float
    stage: str
    training_loss: float
    loss: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Feed:
    """The clips of a run: the batches from a step on, and those that measure; `find_class` knows labels.

    Steps are measured every `steps_a_pass`.
    """

    read_from: Callable[[int], Iterator[list[Clip]]]
    held_out: Iterable[Clip]
    steps_a_pass: int
    find_class: Callable[[str], int]


class Distillation:
    """A run: the student and the moving average of its weights, which is what is measured and kept."""

    def __init__(self, teacher: Teacher, student: DualFormer, course: Course, processes: Processes) -> None:
        self.teacher, self.course, self._processes = teacher, course, processes
        self._frames = teacher.network.config.preprocessing.find_frames(student.config.preprocessing)
        self.student = student.to(processes.device)
        if processes.device.type == "cpu":
            speed_up(self.student)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self._optimizer = make_optimizer(self.student, list_fresh(self.student))
        self._module: nn.Module = self.student
        self._stage: Stage | None = None
        self.losses: list[float] = []
        self.step, self.seconds = 0, 0.0
        self.curve: list[Point] = []
        self.best: dict[str, Tensor] = {}

    @property
    def done(self) -> float:
        """The part of the run that is done, from 0 to 1."""
        course = self.course
        share = self.step / course.steps
        if course.budget_s is not None:
            share = max(share, self._processes.largest(self.seconds / course.budget_s))
        return min(share, 1.0)

    @property
    def best_point(self) -> Point:
        """The measurement of the weights that are kept: the smallest loss on held-out clips."""
        return min(self.curve, key=lambda point: point.loss)

    def run(self, feed: Feed, reporter: Reporter, save: Callable[[Distillation], None]) -> None:
        """Train until all is done; `save` is called after every step, and decides for itself how often it does."""
        every, started = min(feed.steps_a_pass, MEASURED_AFTER), time.perf_counter() - self.seconds
        if not self.curve:
            reporter("the teacher's answers to held-out clips")
            self._measure(feed.held_out)
        batches, done = feed.read_from(self.step), self.done
        while done < 1:
            self.losses.append(self.take_step(next(batches), feed.find_class))
            self.step += 1
            self.seconds = time.perf_counter() - started
            done = self.done
            if self.step % every == 0 or done >= 1:
                self._measure(feed.held_out)
            point = self.curve[-1]
            reporter(
                f"distilling: held-out agreement {point.agreement:.1%}, loss {point.loss:.3f}",
                round(done * self.course.steps),
                self.course.steps,
            )
            save(self)

    def take_step(self, clips: Sequence[Clip], find_class: Callable[[str], int]) -> float:
        """One step; all that is drawn by chance follows from the seed and the step. Returns the loss."""
        course, device = self.course, self._processes.device
        phase = course.schedule.at(self.done)
        numbers = [NO_LABEL if clip.label is None else find_class(clip.label) for clip in clips]
        if phase.stage is not self._stage:
            self._stage = phase.stage
            train_part(self.student, phase.stage)
            self._module = self._processes.wrap(self.student)
        seeds = np.random.default_rng((course.seed, 2, self.step)).integers(MOST_SEED, size=course.batch)
        set_sigma(self.student, phase.sigma, seeds[self._processes.part(course.batch)].tolist())
        wanted = self.teacher.logits(clips)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = self._module(to_input(clips, device)[:, :, self._frames])
        loss = distillation_loss(logits.float(), wanted, torch.tensor(numbers, device=device), course.temperature)
        if not loss.isfinite():
            raise DistillError(f"the loss of step {self.step} is {loss.item()}", fix="take a lower --rate")
        descend(self._optimizer, loss, phase.rate)
        follow(self.average, self.student, self.step)
        return loss.item()

    def _measure(self, held_out: Iterable[Clip]) -> None:
        """Add a point to the curve, and keep the weights if they are the best so far."""
        losses, agreed, count = 0.0, 0, 0
        remaining = iter(held_out)
        while clips := list(islice(remaining, AT_ONCE)):
            wanted = self.teacher.logits(clips)
            with torch.no_grad():
                logits = self.average(to_input(clips, self._processes.device)[:, :, self._frames])
            labels = torch.full((len(clips),), NO_LABEL, device=logits.device)
            losses += distillation_loss(logits, wanted, labels, self.course.temperature).item() * len(clips)
            agreed += int((logits.argmax(1) == wanted.argmax(1)).sum())
            count += len(clips)
        sums = self._processes.add([losses, agreed, count, sum(self.losses), len(self.losses)])
        if not sums[2]:
            raise ClipError("no held-out video could be read", fix="run without --skip-unreadable to see why")
        loss, agreement = sums[0] / sums[2], sums[1] / sums[2]
        stage = self.course.schedule.at(self.done).stage.value
        self.curve.append(
            Point(self.step, self.seconds, stage, sums[3] / sums[4] if self.losses else loss, loss, agreement)
        )
        self.losses.clear()
        if self.best_point is self.curve[-1]:
            self.best = {name: value.clone() for name, value in self.average.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs to go on as if nothing had happened."""
        parts = {"student": self.student.state_dict(), "average": self.average.state_dict(), "best": self.best}
        parts |= {f"optimizer.{number}": one for number, one in self._optimizer.state_dict()["state"].items()}
        return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}

    def restore(
        self, step: int, seconds: float, losses: list[float], curve: list[Point], tensors: dict[str, Tensor]
    ) -> None:
        """Go on from the tensors and the values that a run had."""
        self.step, self.seconds, self.losses, self.curve = step, seconds, losses, curve
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value.to(self._processes.device)
        self.student.load_state_dict(parts.pop("student"))
        self.average.load_state_dict(parts.pop("average"))
        self.best = parts.pop("best")
        moments = {int(part.removeprefix("optimizer.")): values for part, values in parts.items()}
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
