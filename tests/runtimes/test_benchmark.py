"""A latency is what a clock says between start and end of a run, in turns, and comes with its spread."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from dualexport.core.runner import DeviceTime
from dualexport.core.types import Array, TensorSpec
from dualexport.runtimes.benchmark import benchmark, make_feeds
from dualexport.runtimes.latency import Copies, Measurement, Subject, Timing
from dualexport.runtimes.machine.environment import DeviceState
from dualexport.runtimes.machine.memory import reset_peak
from dualexport.runtimes.machine.sampling import Spread
from support.engines import NEEDS_TENSORRT


class Clock:
    """Time that passes only when a runner says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now


class TimedRunner:
    """Takes the given milliseconds a run, and more while it is cold."""

    def __init__(self, name: str, clock: Clock, milliseconds: float, batch: int = 1, cold: int = 0) -> None:
        clock.now += 0.5  # to load
        self.name = name
        self.inputs = (TensorSpec("clip", "uint8", (batch, 2, 4, 4, 3)),)
        self.outputs = (TensorSpec("logits", "float32", (batch, 3)),)
        self.runs = 0
        self._clock, self._milliseconds, self._cold = clock, milliseconds, cold

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert feeds["clip"].shape == self.inputs[0].shape
        self.runs += 1
        slow = 10 if self.runs <= self._cold else 1
        self._clock.now += self._milliseconds * slow / 1e3
        self._clock.order.append(self.name)
        return {"logits": np.zeros(self.outputs[0].shape, np.float32)}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        def run() -> None:
            self.infer(feeds)

        yield run

    def __enter__(self) -> TimedRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class DeviceRunner(TimedRunner):
    """Has its inputs on a device, too, where a run takes half as long."""

    enqueue_ms = 0.125

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        assert feeds

        def run() -> DeviceTime:
            self._clock.now += self._milliseconds / 2e3
            return DeviceTime(self._milliseconds / 2, self.enqueue_ms, copy_in_ms=0.5, copy_out_ms=0.25)

        yield run


def measure(clock: Clock, *runners: tuple[type[TimedRunner], float, int, int], rounds: int = 4) -> Measurement:
    subjects = [
        Subject(str(number), None, partial(kind, str(number), clock, ms, batch, cold))
        for number, (kind, ms, batch, cold) in enumerate(runners)
    ]
    return benchmark(subjects, Timing(seconds=0.4, rounds=rounds, clock=clock))


def test_times_are_the_clock_s_and_the_ratio_is_a_clip_s() -> None:
    one, four = measure(Clock(), (TimedRunner, 10.0, 1, 0), (TimedRunner, 20.0, 4, 0)).results
    assert (one.p50_ms, one.max_ms, one.clip_ms) == pytest.approx((10.0, 10.0, 10.0))
    assert (four.p50_ms, four.clip_ms, four.clips_a_second) == pytest.approx((20.0, 5.0, 200.0))
    assert one.load_seconds == pytest.approx(0.5)
    assert four.ratio is not None
    assert (four.ratio.median, four.ratio.low, four.ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert 38 <= one.runs <= 44


def test_cold_runs_are_not_measured() -> None:
    (result,) = measure(Clock(), (TimedRunner, 1.0, 1, 7)).results
    assert result.max_ms == pytest.approx(1.0)


def test_subjects_take_turns_in_alternating_order() -> None:
    clock = Clock()
    measure(clock, (TimedRunner, 10.0, 1, 0), (TimedRunner, 10.0, 1, 0), rounds=2)
    turns = [name for number, name in enumerate(clock.order) if number == 0 or clock.order[number - 1] != name]
    assert turns == ["0", "1", "0", "1", "0"]  # warm-up of both, 0 and 1, then 1 and 0


def test_times_with_and_without_copies_stay_apart() -> None:
    measurement = measure(Clock(), (DeviceRunner, 10.0, 1, 0), (DeviceRunner, 30.0, 1, 0), (TimedRunner, 5.0, 1, 0))
    found = {
        (one.artifact, one.copies): (one.p50_ms, one.ratio.median if one.ratio else None) for one in measurement.results
    }
    assert found == {
        ("0", Copies.INCLUDED): pytest.approx((10.0, 1.0)),
        ("0", Copies.EXCLUDED): pytest.approx((5.0, 1.0)),
        ("1", Copies.INCLUDED): pytest.approx((30.0, 3.0)),
        ("1", Copies.EXCLUDED): pytest.approx((15.0, 3.0)),
        ("2", Copies.INCLUDED): pytest.approx((5.0, 0.5)),
    }


def test_copies_and_launching_have_figures_of_their_own() -> None:
    wall, on_device = measure(Clock(), (DeviceRunner, 10.0, 1, 0)).results
    assert (wall.enqueue_ms, wall.copy_in_ms, wall.copy_out_ms) == (None, None, None)
    assert (on_device.enqueue_ms, on_device.copy_in_ms, on_device.copy_out_ms) == (0.125, 0.5, 0.25)


def test_a_host_that_launches_slower_than_the_gpu_computes_is_said() -> None:
    class Bound(DeviceRunner):
        enqueue_ms = 4.5

    assert measure(Clock(), (DeviceRunner, 10.0, 1, 0)).warnings == ()
    (warning,) = measure(Clock(), (Bound, 10.0, 1, 0)).warnings
    assert "0: the host takes 4.50 ms to launch what the GPU was busy with for 5.00 ms" in warning


def test_a_gpu_is_awake_before_its_runs_count() -> None:
    class Sleeping(DeviceRunner):
        """Slow until it has worked for a while, and again after others have run."""

        last = worked = 0.0

        @contextmanager
        def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
            assert feeds

            def run() -> DeviceTime:
                self.worked = 0.0 if self._clock.now - self.last > 0.01 else self.worked
                took = 5.0 if self.worked > 0.15 else 20.0
                self._clock.now += took / 1e3
                self.worked, self.last = self.worked + took / 1e3, self._clock.now
                return DeviceTime(took, 0.1, 0.1, 0.1)

            yield run

    results = measure(Clock(), (TimedRunner, 30.0, 1, 0), (Sleeping, 10.0, 1, 0)).results
    (on_device,) = (one for one in results if one.copies is Copies.EXCLUDED)
    assert on_device.max_ms == 5.0


def test_a_gpu_is_warmed_up_for_a_time_and_not_for_a_number_of_runs() -> None:
    clock = Clock()
    started: list[float] = []

    class Watched(DeviceRunner):
        def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            started.append(self._clock.now)
            return super().infer(feeds)

    measure(clock, (Watched, 1.0, 1, 0), rounds=2)
    assert started[-1] - started[0] >= 2 * 1.0  # each of its two ways for a second at least, before the rounds


def test_python_collects_no_garbage_while_it_measures() -> None:
    seen: set[bool] = set()

    class Watching(TimedRunner):
        def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            if self.runs > 10:  # after the warm-up
                seen.add(gc.isenabled())
            return super().infer(feeds)

    measure(Clock(), (Watching, 10.0, 1, 0))
    assert seen == {False}
    assert gc.isenabled()


def test_an_engine_is_measured_in_one_context_by_launches_and_by_a_graph(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)
    from dualexport.runtimes.tensorrt.runner import TensorRTRunner
    from support.fake_gpu import FAKE_ENGINE, FakeEngine, FakeRuntime, make_layer

    specs = (TensorSpec("clip", "uint8", (1, 2, 4, 4, 3)),), (TensorSpec("logits", "float32", (1, 3)),)
    engine = FakeEngine(FakeRuntime(), specs, lambda _: {"logits": np.zeros((1, 3), np.float32)})
    engine.runtime.launch_ms = 4.0
    (path := tmp_path / "net.engine").write_bytes(FAKE_ENGINE)
    subject = Subject("engine", None, lambda: TensorRTRunner(path, cuda_graph=True, layer=make_layer(engine)))
    ticks = itertools.count()
    state = DeviceState(None, 1980.0, None, None, 45.0, None, slowed_by="software power cap")
    timing = Timing(seconds=1.0, rounds=2, clock=lambda: next(ticks) / 20, read_state=lambda: state)
    measurement = benchmark([subject], timing)
    assert engine.contexts == 1
    assert [(one.copies, one.cuda_graph) for one in measurement.results] == [
        (Copies.INCLUDED, False),
        (Copies.EXCLUDED, False),
        (Copies.EXCLUDED, True),
    ]
    _, launches, graph = measurement.results
    assert (launches.p50_ms, graph.p50_ms) == (4.0, 1.5)
    assert measurement.under_load is not None
    assert measurement.under_load.gpu_mhz == Spread(1980.0, 1980.0, 1980.0)
    assert measurement.under_load.slowed_by == "software power cap"
    assert engine.runtime.alive == {}


def test_a_busy_machine_is_said() -> None:
    class Uneven(TimedRunner):
        def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            self._milliseconds = 10.0 if self.runs < 25 else 15.0
            return super().infer(feeds)

    assert measure(Clock(), (TimedRunner, 10.0, 1, 0)).warnings == ()
    (warning,) = measure(Clock(), (TimedRunner, 10.0, 1, 0), (Uneven, 10.0, 1, 0)).warnings
    assert "the machine was busy" in warning
    assert "the rounds of 1 differ by" in warning


def test_inputs_are_random_in_their_whole_range_and_the_same_for_a_seed() -> None:
    runner = TimedRunner("", Clock(), 1, batch=64)
    values = make_feeds(runner, 0)["clip"]
    assert (values.dtype.name, values.min(), values.max()) == ("uint8", 0, 255)
    assert np.array_equal(values, make_feeds(runner, 0)["clip"])
    assert not np.array_equal(values, make_feeds(runner, 1)["clip"])
    runner.inputs = (TensorSpec("clip", "float32", (1, 3, 4, 8, 8)),)
    assert 0.8 < make_feeds(runner, 0)["clip"].std() < 1.2


MEMORY_SCRIPT = """
import numpy as np
from dualexport.runtimes.machine.memory import read_peak_mb, read_resident_mb, reset_peak

np.ones(100_000_000 // 8)
assert reset_peak()
before = read_resident_mb()
np.ones(50_000_000 // 8)
print(read_peak_mb() - before)
"""


@pytest.mark.slow
def test_peak_memory_is_seen_and_forgotten() -> None:
    if not reset_peak():
        pytest.skip("needs /proc/self/clear_refs, which this system does not have")
    # In a process of its own: memory that other tests left to the allocator is resident already.
    result = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    assert 45 < float(result.stdout) < 80
