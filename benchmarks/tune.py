"""The search of `dualexport tune` beside an exhaustive one on the demo model: its winners, and its part of the work.

Usage: python benchmarks/tune.py WORK --clips LABELLED --calibration CALIBRATION [--device agx-orin] [--budgets 20]

Makes both demo networks in FP32, FP16 and INT8 (free and all layers) in the folder WORK, estimates their latency by
plans, and asks all of them about all videos, with the time that takes. Then it searches once for each random budget,
with these answers, and counts what it asked. WORK keeps everything: the same command prints
the same again; times are right where it was new, since an answer that is known takes none.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualexport.core.choices import DeviceName, Place, Precision, Runtime
from dualexport.core.class_names import find_class
from dualexport.core.reporter import Reporter
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.tune.answers import Answers, AnswerWorker
from dualexport.pipeline.tune.candidates import NetworkChoice, list_candidates, list_forms, list_networks
from dualexport.pipeline.tune.journal import Journal
from dualexport.pipeline.tune.latency import estimate_latencies
from dualexport.pipeline.tune.search import search
from dualexport.pipeline.tune.verdict import Answer, Budget, TimedCandidate, Trial
from dualexport.pipeline.tune.workshop import Workshop
from dualexport.verification.pool import Pool

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


@dataclass(frozen=True)
class Table:
    """All answers of all candidates, and the seconds that one answer takes each."""

    candidates: list[TimedCandidate]
    answers: dict[str, list[Answer]]
    seconds: dict[str, float]

    @property
    def videos(self) -> int:
        return len(next(iter(self.answers.values())))

    def exhaust(self, budget: Budget) -> str | None:
        """The winner by all answers."""
        right = {name: sum(answer.right for answer in answers) for name, answers in self.answers.items()}
        least = budget.least_right(right[self.candidates[0].name], self.videos)
        holding = [
            one
            for one in self.candidates
            if one.latency_ms <= (budget.latency_ms or one.latency_ms) and right[one.name] >= least
        ]
        return min(holding, key=lambda one: (-right[one.name], one.speed)).name if holding else None

    def search(self, budget: Budget) -> tuple[str | None, int, float]:
        """The winner of the search, the answers it asked for, and the seconds that these take."""
        asked: list[str] = []

        def ask(name: str, videos: Sequence[int]) -> list[Answer]:
            asked.extend([name] * len(videos))
            return [self.answers[name][video] for video in videos]

        verdict = search(self.candidates, self.candidates[0].name, budget, Trial(ask, self.videos))
        return verdict.winner, len(asked), sum(self.seconds[name] for name in asked)


def make_table(work: Path, clips: Clips, calibration: Clips, device: DeviceName) -> Table:
    """Make all files, and ask them about all videos."""
    reporter = Reporter(note=print)
    networks = list_networks([NetworkChoice(), NetworkChoice(selections="T0:0.5")], None, reporter)
    forms = list_forms(PRECISIONS, (Place.FREE, Place.ALL), (), None, Precision.FP16)
    candidates = {one.name: one for one in list_candidates(networks, forms, 1)}
    sources = {network.name: clips.open(network.preprocessing) for network in networks}
    work.mkdir(parents=True, exist_ok=True)
    workshop, worker = Workshop(work, clips, calibration, None, reporter), AnswerWorker()
    videos = sources[networks[0].name].videos
    labels = [find_class(video.label or "", networks[0].labels, networks[0].classes) for video in videos]
    with Journal(work) as journal:
        timed = estimate_latencies(tuple(candidates.values()), device, workshop, journal, reporter)
        made = {name: workshop.make_runnable(one, Runtime.ONNX) for name, one in candidates.items()}
        of_candidates = {name: sources[one.network.name] for name, one in candidates.items()}
        ask = Answers(made.__getitem__, of_candidates, labels, journal, Pool((None,), worker.run))
        answers, seconds = {}, {}
        for name, artifact in made.items():
            begun, key = time.perf_counter(), f"seconds {artifact.sha256} {len(videos)}"
            answers[name] = ask(name, range(len(videos)))
            known = journal.find_number(key)
            seconds[name] = (time.perf_counter() - begun) / len(videos) if known is None else known
            if known is None:
                journal.add_number(key, seconds[name])
    worker.close()
    entered = [
        TimedCandidate(name, timed.milliseconds[name], one.network.name, one.width) for name, one in candidates.items()
    ]
    return Table(entered, answers, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--clips", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--device", type=DeviceName, default=DeviceName.AGX_ORIN)
    parser.add_argument("--budgets", type=int, default=20)
    arguments = parser.parse_args()
    table = make_table(arguments.work, Clips(arguments.clips), Clips(arguments.calibration), arguments.device)
    for one in table.candidates:
        right = sum(answer.right for answer in table.answers[one.name])
        print(f"{one.name:36} {one.latency_ms:6.3f} ms  {right / table.videos:6.1%}  {table.seconds[one.name]:.3f} s")
    chance, latencies = random.Random(0), [one.latency_ms for one in table.candidates]
    work, total = len(latencies) * table.videos, sum(table.seconds.values()) * table.videos
    parts, times, same = [], [], 0
    print("\n| budget | winner | exhaustive | answers | time |\n|---|---|---|---|---|")
    for _ in range(arguments.budgets):
        budget = Budget(
            chance.uniform(0.95 * min(latencies), 1.05 * max(latencies)), chance.choice((0, 0.005, 0.01, 0.02))
        )
        winner, asked, seconds = table.search(budget)
        expected = table.exhaust(budget)
        same += winner == expected
        parts.append(asked / work)
        times.append(seconds / total)
        limits = f"{budget.latency_ms:.2f} ms, {100 * (budget.max_drop or 0):g} points"
        print(f"| {limits} | {winner} | {expected} | {parts[-1]:.0%} | {times[-1]:.0%} |")
    print(
        f"\nthe same winner {same} of {len(parts)} times; of the answers {statistics.mean(parts):.0%} on the mean, ",
        end="",
    )
    print(f"{max(parts):.0%} at most; of the time {statistics.mean(times):.0%}, {max(times):.0%} at most")


if __name__ == "__main__":
    main()
