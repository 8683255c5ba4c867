"""Latency as it can be defended: warmed up until stable, in alternating rounds, as a ratio with its spread.

Wall time is taken around `infer`, which returns host arrays and so has synchronized, copies included. A runner that
computes on a GPU is measured again on inputs that are there already, by the GPU's own events, with its kernels launched
one by one and, where it has one, by a CUDA graph. These ways are never mixed in one figure.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from ..core.reporter import Progress, no_progress
from ..core.runner import DeviceTime, GraphRunner, Runner, TimedRunner
from ..core.types import Array
from .latency import Copies, Latency, Measurement, Ratio, Subject, Timing
from .machine.memory import read_peak_mb, read_resident_mb, reset_peak
from .machine.sampling import StateSampler

WARM_UP_WINDOW = 5  # runs whose median has to be that of the window before
STABLE = 0.05  # largest relative change between two windows
BUSY = 0.15  # largest relative spread between the medians of rounds on a machine that does nothing else
ENQUEUE_BOUND = 0.8  # of the GPU's time: a host that takes longer to queue a batch is what bounds its latency
MOST_SAMPLES = 400  # that are kept for a picture


def benchmark(subjects: Sequence[Subject], timing: Timing, progress: Progress = no_progress) -> Measurement:
    """Measure `subjects`, of which the first is the reference, on the same random inputs.

    All are loaded, then run in turns, in rounds of alternating order, so that what happens to the machine happens to
    all of them. Raises what loading and running them raises: a subject that does not run has no latency.
    """
    with ExitStack() as opened:
        runs: list[_Run] = []
        for subject in subjects:
            progress(f"loading and warming up {subject.name}")
            runs += _load(subject, timing, opened)
        with StateSampler(timing.read_state) if timing.read_state else nullcontext() as sampler:
            for number in range(timing.rounds):
                progress("measuring", number, timing.rounds)
                for run in runs if number % 2 == 0 else reversed(runs):
                    run.measure(timing)
        progress("measuring", timing.rounds, timing.rounds)
    references = [run for run in runs if run.subject is subjects[0]]
    results = tuple(run.summarize(_find_reference(run, references)) for run in runs)
    under_load = sampler.summary() if sampler else None
    return Measurement(subjects[0].name, results, tuple(_warn(results)), under_load)


def make_feeds(runner: Runner, seed: int, batch: int | None = None) -> dict[str, Array]:
    """Random inputs as `runner` takes them, never zeros: noise in all of a byte's values, or normal around 0.

    `batch` clips, by default as many as it takes.
    """
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in runner.inputs:
        shape = (batch or spec.shape[0], *spec.shape[1:])
        if spec.dtype == "uint8":
            feeds[spec.name] = random.integers(0, 256, shape, dtype=np.uint8)
        else:
            feeds[spec.name] = random.standard_normal(shape).astype(spec.dtype)
    return feeds


@dataclass(slots=True)
class _Run:
    """One subject in one way of running it, and its times so far, in milliseconds, by round."""

    subject: Subject
    runner: TimedRunner
    feeds: Mapping[str, Array]
    copies: Copies
    by_graph: bool
    on_gpu: bool
    load_seconds: float = 0.0
    host_peak_mb: float | None = None
    device_peak_mb: float | None = None
    rounds: list[list[float]] = field(default_factory=list)
    device_times: list[DeviceTime] = field(default_factory=list)

    @contextmanager
    def ready(self, clock: Callable[[], float]) -> Iterator[Callable[[], float]]:
        """A function that runs once and returns its milliseconds; what it needs of the device is held meanwhile."""
        if self.copies is Copies.INCLUDED:
            infer = self._infer_by_choice if isinstance(self.runner, GraphRunner) else self.runner.infer

            def step() -> float:
                begun = clock()
                infer(self.feeds)
                return (clock() - begun) * 1e3

            yield step
            return
        with self._prepare() as run:

            def step_on_device() -> float:
                found = run()
                assert found is not None, "a device that has timed a run times all of them"
                self.device_times.append(found)
                return found.compute_ms

            yield step_on_device

    def measure(self, timing: Timing) -> None:
        """Add a round; on a GPU after waking it up. Python collects no garbage meanwhile."""
        times: list[float] = []
        clock = timing.clock
        with self.ready(clock) as step, _no_collection():
            awake = clock() + (timing.gpu_wake_up_seconds if self.on_gpu else 0.0)
            while clock() < awake:
                step()
            self.device_times = self.device_times[: sum(map(len, self.rounds))]
            end = clock() + timing.seconds / timing.rounds
            while not times or clock() < end:
                times.append(step())
        self.rounds.append(times)

    def warm_up(self, timing: Timing) -> None:
        """Run until two windows of runs have the same median, or the time for it is over; a GPU its time at least."""
        clock, times = timing.clock, []
        start = clock()
        with self.ready(clock) as step:
            times.append(step())
            while (passed := clock() - start) < timing.warm_up_seconds:
                times.append(step())
                if _is_stable(times) and (not self.on_gpu or passed >= timing.gpu_warm_up_seconds):
                    break
        self.device_times.clear()

    def _infer_by_choice(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert isinstance(self.runner, GraphRunner)
        return self.runner.infer(feeds, by_graph=self.by_graph)

    def _prepare(self) -> AbstractContextManager[Callable[[], DeviceTime | None]]:
        if isinstance(self.runner, GraphRunner):
            return self.runner.prepared(self.feeds, by_graph=self.by_graph)
        return self.runner.prepared(self.feeds)

    def summarize(self, reference: _Run | None) -> Latency:
        times = [value for one in self.rounds for value in one]
        medians = [statistics.median(one) for one in self.rounds]
        batch = self.batch
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
            cuda_graph=self.by_graph,
            enqueue_ms=self._median(lambda one: one.enqueue_ms),
            copy_in_ms=self._median(lambda one: one.copy_in_ms),
            copy_out_ms=self._median(lambda one: one.copy_out_ms),
        )

    def _median(self, figure: Callable[[DeviceTime], float]) -> float | None:
        return statistics.median(map(figure, self.device_times)) if self.device_times else None

    @property
    def round_clip_ms(self) -> list[float]:
        return [statistics.median(one) / self.batch for one in self.rounds]

    @property
    def batch(self) -> int:
        """Clips of one run."""
        return len(next(iter(self.feeds.values())))


def _load(subject: Subject, timing: Timing, opened: ExitStack) -> list[_Run]:
    """Open a subject and warm it up in every way that it can be run, one after the other in the same memory."""
    clock = timing.clock
    before, peak_known, free = read_resident_mb(), reset_peak(), timing.free_device_mb()
    started = clock()
    runner = subject.open()
    opened.enter_context(runner)
    load_seconds = clock() - started
    feeds = make_feeds(runner, timing.seed, subject.batch)
    with runner.prepared(feeds) as on_device:
        on_gpu = on_device() is not None
    has_graph = isinstance(runner, GraphRunner) and runner.has_graph
    ways = [(Copies.INCLUDED, has_graph and subject.cuda_graph)]
    if on_gpu:
        ways += [(Copies.EXCLUDED, by_graph) for by_graph in ((False, True) if has_graph else (False,))]
    runs = [_Run(subject, runner, feeds, copies, by_graph, on_gpu, load_seconds) for copies, by_graph in ways]
    for run in runs:
        run.warm_up(timing)
    peak = read_peak_mb() if peak_known else None
    free_after = timing.free_device_mb()
    for run in runs:
        run.host_peak_mb = peak - before if peak is not None and before is not None else None
        run.device_peak_mb = free - free_after if free is not None and free_after is not None else None
    return runs


def _is_stable(times: Sequence[float]) -> bool:
    """True when the last two windows of runs have the same median."""
    if len(times) < 2 * WARM_UP_WINDOW:
        return False
    last = statistics.median(times[-WARM_UP_WINDOW:])
    before = statistics.median(times[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW])
    return abs(last - before) <= STABLE * before


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector off, whose pauses would be measured with a run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _find_reference(run: _Run, references: Sequence[_Run]) -> _Run | None:
    """The reference in the same way of running, else by single launches, else none."""
    same = [one for one in references if one.copies is run.copies]
    return next((one for one in same if one.by_graph is run.by_graph), same[0] if same else None)


def _compare(run: _Run, reference: _Run) -> Ratio:
    ratios = [own / other for own, other in zip(run.round_clip_ms, reference.round_clip_ms, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _warn(results: Sequence[Latency]) -> Iterator[str]:
    busiest = max(results, key=lambda result: result.round_spread)
    if busiest.round_spread > BUSY:
        yield (
            f"the machine was busy, or its clocks changed: the rounds of {busiest.artifact} differ by "
            f"{busiest.round_spread:.0%}; measure again when nothing else runs"
        )
    for one in results:
        if not one.cuda_graph and one.enqueue_ms is not None and one.enqueue_ms > ENQUEUE_BOUND * one.p50_ms:
            yield (
                f"{one.artifact}: the host takes {one.enqueue_ms:.2f} ms to launch what the GPU was busy with for "
                f"{one.p50_ms:.2f} ms: launching bounds that time; go by the row with a CUDA graph"
            )
