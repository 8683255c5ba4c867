"""The subjects of a benchmark, how long each is measured, and the latencies that come of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..core.runner import TimedRunner
from .machine.environment import DeviceState
from .machine.sampling import LoadSummary


class Copies(str, Enum):
    """The copies between host and device, in a time or not."""

    INCLUDED = "included"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure: `open` loads it, which is timed; `cuda_graph` has its wall time taken by a graph.

    `batch` is that of the runs, by default the largest that it takes.
    """

    name: str
    sha256: str | None
    open: Callable[[], TimedRunner]
    cuda_graph: bool = False
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """The time to measure each subject for, in how many alternating rounds; `warm_up_seconds` is the longest warm-up.

    A GPU is warmed up for at least `gpu_warm_up_seconds`, in which its clocks rise, and for `gpu_wake_up_seconds` at
    the start of each round, since others ran meanwhile. `free_device_mb` tells the device memory that is free, None
    where there is no device; `read_state` is sampled during the rounds.
    """

    seconds: float = 10.0
    rounds: int = 5
    warm_up_seconds: float = 10.0
    gpu_warm_up_seconds: float = 1.0
    gpu_wake_up_seconds: float = 0.2
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter
    free_device_mb: Callable[[], float | None] = lambda: None
    read_state: Callable[[], DeviceState] | None = None


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
    of the device's memory, which on a Jetson is the host's too; None where it is not known. In the rows of a GPU's own
    time, `enqueue_ms` is the host's to queue a batch, and `copy_in_ms` and `copy_out_ms` are those of its copies.
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
    cuda_graph: bool = False
    enqueue_ms: float | None = None
    copy_in_ms: float | None = None
    copy_out_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """All subjects' latencies of one run; `reference` is the subject that ratios are to."""

    reference: str
    results: tuple[Latency, ...]
    warnings: tuple[str, ...]
    under_load: LoadSummary | None = None
