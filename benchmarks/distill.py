"""Networks of half the cost against the whole demo model, and against each other, on videos none of them learned from.

Usage: python benchmarks/distill.py --clips 200 [--seed 20261121 --seed 31337] [--student T0_0.5.safetensors ...]
                                    [--keep found.json]
       python benchmarks/distill.py --step

Without training: half of the frames chosen at random, by the largest difference between neighbouring frames, and at
twice the stride; and the selector that comes with the demo model, trained with labels. Then each --student, a
checkpoint that `dualexport distill` wrote; those that select frames once more with their choice replaced, which says
what of the gain is the choice. Pairs are tested by McNemar's exact test on the same videos: `lost` are those that the
whole network has right and the row has not, `p` against the whole network, and against the first student.

With --keep a row that was measured before is not measured again. --step measures a step of distillation against a bare
forward and backward pass of the student, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import dualexport as dx
import numpy as np
import torch
from dualexport.clips.scenes import ACTIONS, SCENE_FRAMES, make_scene
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import generated_clips, write_dataset
from dualexport.core.logit_store import LogitStore
from dualexport.core.selection import parse_selections
from dualexport.core.types import Array, Clip
from dualexport.exporter.distillation.processes import Processes
from dualexport.exporter.distillation.schedule import Schedule, Stage
from dualexport.exporter.distillation.student import make_student, train_part
from dualexport.exporter.distillation.teacher import Teacher, to_input
from dualexport.exporter.distillation.trainer import Course, Distillation
from dualexport.exporter.dualformer.network import DualFormer, count_macs
from dualexport.exporter.dualformer.selectors import list_selectors, set_sigma
from dualexport.verification.measures import Share, mcnemar_exact
from torch import Tensor

BATCH = 8
CPU = torch.device("cpu")
Scores = Callable[[Tensor], Tensor]


@dataclass
class Row:
    """A network on clips of its own, perhaps with other scores of frames; `found` are the classes it sees."""

    name: str
    network: DualFormer
    scores: Scores | None = None
    found: list[int] = field(default_factory=list)

    def add(self, clips: Tensor, stride: int) -> None:
        """See clips of the whole network's frames, `stride` apart in the video."""
        config = self.network.config
        step = config.stride // stride
        seen = clips[:, :, : config.frames * step : step]
        if self.scores is not None:
            (selector,) = list_selectors(self.network)
            values = self.scores(seen)
            selector.score = lambda _: values  # type: ignore[method-assign, assignment]
        with torch.no_grad():
            self.found += self.network(seen).argmax(1).tolist()


def score_randomly(clips: Tensor) -> Tensor:
    return torch.rand(len(clips), clips.shape[2] // 2)


def score_differences(clips: Tensor) -> Tensor:
    """The mean difference of a token frame's two frames to each other and to their neighbours: (batch, frames / 2)."""
    change = (clips[:, :, 1:] - clips[:, :, :-1]).abs().mean(dim=(1, 3, 4))  # (batch, frames - 1)
    within = change[:, ::2]
    between = torch.nn.functional.pad(change[:, 1::2], (1, 1), mode="replicate")
    return within + (between[:, :-1] + between[:, 1:]) / 2


def list_rows(students: Sequence[Path]) -> list[Row]:
    whole = dx.load_demo().module
    rows = [Row("whole network", whole)]
    half = parse_selections("T0:0.5")
    for name, scores in (("random frames", score_randomly), ("largest frame differences", score_differences)):
        rows.append(Row(name, make_student(whole, half, whole.config.frames, whole.config.stride, 0), scores))
    rows.append(Row("half the frames, twice the stride", dx.load_demo().with_clips(8, 4).module))
    rows += [Row(f"{path.stem}, distilled", dx.load(path).module) for path in students]
    rows.append(Row("T0:0.5, trained with labels", dx.load_demo(selections="T0:0.5").module))
    for path in students:
        if dx.load(path).selected:
            rows.append(Row(f"{path.stem}, but random frames", dx.load(path).module, score_randomly))
            rows.append(Row(f"{path.stem}, but frame differences", dx.load(path).module, score_differences))
    return rows


def classify(rows: Sequence[Row], seed: int, count: int) -> None:
    """Let the rows see the videos of a seed."""
    config = dx.load_demo().module.config
    with tempfile.TemporaryDirectory() as folder:
        labels = write_dataset(Path(folder), count, seed).labels
        clips = iter(ClipSource(labels, config.preprocessing))
        while batch := list(islice(clips, BATCH)):
            for row in rows:
                row.add(to_input(batch, CPU), config.stride)


def find_partial(seed: int, count: int) -> Array:
    """The videos of a seed that show their action in a part of the time only."""
    motions = [make_scene(seed, index).motion for index in range(count)]
    return np.array([one.action != "standing still" and one.end - one.start <= SCENE_FRAMES - 2 for one in motions])


def classify_new(rows: Sequence[Row], seeds: Sequence[int], count: int, keep: Path | None) -> None:
    """Let the rows see the videos of all seeds, but for those that `keep` knows from an earlier run."""
    known = json.loads(keep.read_text()) if keep is not None and keep.exists() else {}
    for seed in seeds:
        new = [row for row in rows if f"{row.name} {seed} {count}" not in known]
        if new:
            for row in new:
                row.found.clear()
            classify(new, seed, count)
            known |= {f"{row.name} {seed} {count}": list(row.found) for row in new}
            if keep is not None:
                keep.write_text(json.dumps(known))
    for row in rows:
        row.found = [one for seed in seeds for one in known[f"{row.name} {seed} {count}"]]


def print_rows(rows: Sequence[Row], truth: Array, partial: Array) -> None:
    right = {row.name: np.array(row.found) == truth for row in rows}
    whole, reference = right[rows[0].name], next(right[row.name] for row in rows if row.name.endswith("distilled"))
    print("| | GMACs | top-1 (95% interval) | agrees | lost, gained | p | p to the first student | part | all |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        hits = right[row.name]
        share = Share.of(int(hits.sum()), len(hits))
        agrees = np.mean(np.array(row.found) == np.array(rows[0].found))
        cells = (
            row.name,
            f"{count_macs(row.network.config) / 1e9:.1f}",
            f"{share.share:.1%} ({share.low:.1%} to {share.high:.1%})",
            f"{agrees:.1%}",
            f"{np.sum(whole & ~hits)}, {np.sum(~whole & hits)}",
            f"{test_pair(whole, hits):.2g}",
            f"{test_pair(reference, hits):.2g}",
            f"{hits[partial].mean():.1%}",
            f"{hits[~partial].mean():.1%}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"{len(truth)} videos, in {partial.sum()} of them the action takes a part of the time")


def test_pair(first: Array, second: Array) -> float:
    return mcnemar_exact(int(np.sum(first & ~second)), int(np.sum(~first & second)))


def measure_step(rounds: int = 6) -> None:
    """A step of either stage as the command takes it, answers of the teacher known, and a bare one, in turns."""
    teacher = dx.load_demo().module
    clips = list(generated_clips(BATCH, teacher.config.preprocessing))
    half = parse_selections("T0:0.5")
    for stage, selecting in ((Stage.SELECTORS, 1.0), (Stage.NETWORK, 0.0)):
        student = make_student(teacher, half, 16, 2, 0)
        course = Course(10_000, BATCH, 0, 2.0, Schedule(selecting, 1e-3, 1e-4))
        with LogitStore(None, {}) as store:
            run = Distillation(Teacher(teacher, store, CPU), student, course, Processes(0, 1, CPU))
            ratios = [time_pair(run, clips, stage) for _ in range(rounds + 1)][1:]
        print(f"{stage.value}: a step takes {statistics.median(ratios):.2f} of a bare forward and backward pass")


def time_pair(run: Distillation, clips: list[Clip], stage: Stage) -> float:
    """The time of a step by that of a bare pass of the same network."""
    started = time.perf_counter()
    run.take_step(clips, ACTIONS.index)
    middle = time.perf_counter()
    train_part(run.student, stage)
    set_sigma(run.student, 0.05 if stage is Stage.SELECTORS else 0.0)
    values = torch.zeros(BATCH, *run.student.config.clip_shape)
    ready = time.perf_counter()
    run.student(values).sum().backward()
    ended = time.perf_counter()
    return (middle - started) / (ended - ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--student", type=Path, action="append", default=[])
    parser.add_argument("--keep", type=Path, metavar="JSON")
    parser.add_argument("--step", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.step:
        measure_step()
        return
    rows = list_rows(options.student)
    seeds = options.seed or [20261121]
    classify_new(rows, seeds, options.clips, options.keep)
    partial = np.concatenate([find_partial(seed, options.clips) for seed in seeds])
    print_rows(rows, np.tile(np.arange(options.clips) % len(ACTIONS), len(seeds)), partial)


if __name__ == "__main__":
    main()
