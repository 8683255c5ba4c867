"""The contents of bench.json as they are read: typed, bounded, every time positive and finite."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

FORMAT = 1  # raised when a reader of the former would misread it

Line = Annotated[str, Meta(max_length=4000)]
Lines = Annotated[tuple[Line, ...], Meta(max_length=1000)]
Time = Annotated[float, Meta(ge=1e-9, le=1e12)]  # or a rate
Size = Annotated[float, Meta(ge=-1e12, le=1e12)]  # MB that loading added, below zero where memory was freed meanwhile
Count = Annotated[int, Meta(ge=1, le=10**12)]
Scalar = Line | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | None
Facts = Annotated[dict[Line, Scalar], Meta(max_length=100)]


class Ratio(msgspec.Struct, frozen=True):
    """Time a clip against the reference's in the same round: median of the rounds, lowest and highest."""

    median: Time
    low: Time
    high: Time


class Measured(msgspec.Struct, frozen=True):
    """One artifact's times, in milliseconds a run of `batch` clips, with or without copies to and from the device."""

    artifact: Line
    sha256: Line | None
    runner: Line
    copies: Literal["included", "excluded"]
    batch: Count
    runs: Count
    p50_ms: Time
    p90_ms: Time
    p99_ms: Time
    max_ms: Time
    clip_ms: Time
    clips_a_second: Time
    round_spread: Annotated[float, Meta(ge=0, le=1e12)]
    load_seconds: Annotated[float, Meta(ge=0, le=1e12)]
    host_peak_mb: Size | None
    device_peak_mb: Size | None
    ratio: Ratio | None
    samples_ms: Annotated[tuple[Time, ...], Meta(min_length=1, max_length=10_000)]
    cuda_graph: bool = False
    enqueue_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    copy_in_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    copy_out_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None


class Bench(msgspec.Struct, frozen=True):
    """One run of `dualexport bench`; `reference` is what ratios are to, `copies` a sentence on what times hold."""

    format: Annotated[int, Meta(ge=1, le=FORMAT)]
    reference: Line
    results: Annotated[tuple[Measured, ...], Meta(max_length=1000)]
    warnings: Lines
    copies: Line
    environment: Facts
    measured_at: Line | None = None
    seconds: Time | None = None
    rounds: Count | None = None
    state_before: Facts = {}
    state_after: Facts = {}
    tools: Facts = {}
    folders: Lines = ()


class Verdict(msgspec.Struct, frozen=True):
    """An INT8 file's speed beside that of the file in the precision around INT8, `rest`, measured in the same run.

    `speedup` is rest's time a clip over INT8's; `spread` the largest relative difference between rounds of either.
    """

    artifact: str
    rest: str
    device: str
    on_gpu: bool
    batch: int
    speedup: float
    spread: float
    sentence: str


class Latency(Bench, frozen=True, kw_only=True):
    """Latencies of files that are there now, and what they mean for INT8."""

    verdicts: tuple[Verdict, ...]
