"""Latency as it can be defended: warmed up until stable, in alternating rounds, as a ratio with its spread.

Wall time is taken around `infer`, which returns host arrays and so has synchronized, copies included. A runner that
computes on a GPU is measured a second time on inputs that are there already, by the GPU's own events. The two are never
mixed in one figure.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..core.reporter import Progress, no_progress
from ..core.runner import Runner, TimedRunner
from ..core.types import Array
from .machine.memory import read_peak_mb, read_resident_mb, reset_peak

WARM_UP_WINDOW = 5  # runs whose median has to be that of the window before
STABLE = 0.05  # largest relative change between two windows
BUSY = 0.15  # largest relative spread between the medians of rounds on a machine that does nothing else
MOST_SAMPLES = 400  # that are kept for a picture


class Copies(str, Enum):
    """Whether a time holds the copies between host and device."""

    INCLUDED = "included"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: `open` loads it, which is timed."""

    name: str
    sha256: str | None
    open: Callable[[], TimedRunner]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to measure each subject, in how many alternating rounds; `warm_up_seconds` is the longest warm-up.

    `free_device_mb` says how much device memory is free, None where there is no device.
    """

    seconds: float = 10.0
    rounds: int = 5
    warm_up_seconds: float = 10.0
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter
    free_device_mb: Callable[[], float | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time a clip against the reference's in the same round: median of the rounds, lowest and highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Latency:
    """One subject's times, in milliseconds a run of `batch` clips. `samples_ms` are all runs, or evenly chosen ones.

    `host_peak_mb` is what loading and warming up added to the process at its highest, `device_peak_mb` what they took
    of the device's memory; None where it is not known.
    """

    artifact: str
    sha256: str | None
    runner: str
    copies: Copies
    batch: int
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    clip_ms: float
    clips_a_second: float
    round_spread: float
    load_seconds: float
    host_peak_mb: float | None
    device_peak_mb: float | None
    ratio: Ratio | None
    samples_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """All subjects' latencies of one run; `reference` is the subject that ratios are to."""

    reference: str
    results: tuple[Latency, ...]
    warnings: tuple[str, ...]


def benchmark(subjects: Sequence[Subject], timing: Timing, progress: Progress = no_progress) -> Measurement:
    """Measure `subjects`, of which the first is the reference, on the same random inputs.

    All are loaded, then run in turns, in rounds of alternating order, so that what happens to the machine happens to
    all of them. Raises what loading and running them raises: a subject that does not run has no latency.
    """
    with ExitStack() as opened:
        runs = []
        for subject in subjects:
            progress(f"loading and warming up {subject.name}")
            runs += _load(subject, timing, opened)
        for number in range(timing.rounds):
            progress("measuring", number, timing.rounds)
            for run in runs if number % 2 == 0 else reversed(runs):
                run.measure(timing.seconds / timing.rounds, timing.clock)
        progress("measuring", timing.rounds, timing.rounds)
    references = {run.copies: run for run in reversed(runs) if run.subject is subjects[0]}
    results = tuple(run.summarize(references.get(run.copies)) for run in runs)
    return Measurement(subjects[0].name, results, tuple(_warn(results)))


def make_feeds(runner: Runner, seed: int) -> dict[str, Array]:
    """Random inputs as `runner` takes them, never zeros: noise in all of a byte's values, or normal around 0."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in runner.inputs:
        if spec.dtype == "uint8":
            feeds[spec.name] = random.integers(0, 256, spec.shape, dtype=np.uint8)
        else:
            feeds[spec.name] = random.standard_normal(spec.shape).astype(spec.dtype)
    return feeds


@dataclass(slots=True)
class _Run:
    """One subject in one way of running it, and its times so far, in milliseconds, by round."""

    subject: Subject
    runner: TimedRunner
    copies: Copies
    load_seconds: float
    host_peak_mb: float | None
    device_peak_mb: float | None
    step: Callable[[], float]
    rounds: list[list[float]]

    def measure(self, seconds: float, clock: Callable[[], float]) -> None:
        times: list[float] = []
        end = clock() + seconds
        while not times or clock() < end:
            times.append(self.step())
        self.rounds.append(times)

    def summarize(self, reference: _Run | None) -> Latency:
        times = [value for one in self.rounds for value in one]
        medians = [statistics.median(one) for one in self.rounds]
        batch = self.runner.inputs[0].shape[0]
        p50, p90, p99 = (float(value) for value in np.quantile(times, (0.5, 0.9, 0.99)))
        kept = np.linspace(0, len(times) - 1, min(len(times), MOST_SAMPLES)).astype(int)
        return Latency(
            artifact=self.subject.name,
            sha256=self.subject.sha256,
            runner=self.runner.name,
            copies=self.copies,
            batch=batch,
            runs=len(times),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            max_ms=max(times),
            clip_ms=p50 / batch,
            clips_a_second=1000 * batch * len(times) / sum(times),
            round_spread=(max(medians) - min(medians)) / statistics.median(medians),
            load_seconds=self.load_seconds,
            host_peak_mb=self.host_peak_mb,
            device_peak_mb=self.device_peak_mb,
            ratio=_compare(self, reference) if reference else None,
            samples_ms=tuple(times[index] for index in kept),
        )

    @property
    def round_clip_ms(self) -> list[float]:
        return [statistics.median(one) / self.runner.inputs[0].shape[0] for one in self.rounds]


def _load(subject: Subject, timing: Timing, opened: ExitStack) -> list[_Run]:
    """Open a subject and warm it up in every way that it can be run."""
    clock = timing.clock
    before, peak_known, free = read_resident_mb(), reset_peak(), timing.free_device_mb()
    started = clock()
    runner = subject.open()
    opened.enter_context(runner)
    load_seconds = clock() - started
    feeds = make_feeds(runner, timing.seed)

    def step() -> float:
        begun = clock()
        runner.infer(feeds)
        return (clock() - begun) * 1e3

    steps: dict[Copies, Callable[[], float]] = {Copies.INCLUDED: step}
    on_device = opened.enter_context(runner.prepared(feeds))
    if on_device() is not None:
        steps[Copies.EXCLUDED] = lambda: on_device() or 0.0
    for one in steps.values():
        _warm_up(one, timing)
    peak = read_peak_mb() if peak_known else None
    added = peak - before if peak is not None and before is not None else None
    free_after = timing.free_device_mb()
    taken = free - free_after if free is not None and free_after is not None else None
    return [_Run(subject, runner, copies, load_seconds, added, taken, one, []) for copies, one in steps.items()]


def _warm_up(step: Callable[[], float], timing: Timing) -> None:
    """Run until two windows of runs have the same median, or the time for it is over."""
    end, times = timing.clock() + timing.warm_up_seconds, [step()]
    while timing.clock() < end:
        times.append(step())
        if len(times) >= 2 * WARM_UP_WINDOW:
            last = statistics.median(times[-WARM_UP_WINDOW:])
            before = statistics.median(times[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW])
            if abs(last - before) <= STABLE * before:
                return


def _compare(run: _Run, reference: _Run) -> Ratio:
    ratios = [own / other for own, other in zip(run.round_clip_ms, reference.round_clip_ms, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _warn(results: Sequence[Latency]) -> list[str]:
    busiest = max(results, key=lambda result: result.round_spread)
    if busiest.round_spread <= BUSY:
        return []
    return [
        f"the machine was busy, or its clocks changed: the rounds of {busiest.artifact} differ by "
        f"{busiest.round_spread:.0%}; measure again when nothing else runs"
    ]
