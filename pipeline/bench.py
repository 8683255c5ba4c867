"""Measure how fast artifacts are, all in one run: `dualexport bench` and `dualexport.bench`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.choices import Precision, Runtime, choose
from ..core.errors import ManifestError, OptionError
from ..core.extras import needing_extra
from ..core.files import require_writable
from ..core.manifest import Manifest, check_artifact, tool_versions
from ..core.reporter import Notify, Progress, no_notes, no_progress
from ..core.runner import TimedRunner
from ..core.types import Artifact
from ..report.bench import FORMAT as BENCH_FORMAT
from ..runtimes.tensorrt.engine_file import SUFFIX
from .latency import BENCH_FILE, write_bench
from .runners import open_artifact, open_network, skip_stale
from .verify.inputs import find_networks, select_artifacts

if TYPE_CHECKING:
    from ..runtimes.latency import Measurement, Subject
    from ..runtimes.machine.environment import DeviceState

BUSY_LOAD = 0.5  # of the cores, in the minute before
COPIES = "Wall time around a run, copies between host and device included, except where a row says device events."


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a measurement: which artifacts, and for how long each, in how many alternating rounds.

    Of the artifacts that `against` names (`all`, or precisions and file names with commas between), those of `runtimes`
    and with the batch sizes `batches` are measured; None for any. PyTorch is measured only where it is asked for; its
    checkpoint may be at `checkpoint` by now. With `cuda_graph` the wall time of engines is that of a CUDA graph.
    """

    runtimes: Sequence[Runtime | str] | None = None
    against: str = "all"
    batches: Sequence[int] | None = None
    seconds: float = 10.0
    rounds: int = 5
    checkpoint: Path | str | None = None
    cuda_graph: bool = False


@dataclass(frozen=True, slots=True)
class Benched:
    """The latencies, what may have disturbed them, and the document, of which each folder's bench.json is a part."""

    measurement: Measurement
    warnings: tuple[str, ...]
    document: dict[str, Any]


def bench(
    folders: Path | str | Sequence[Path | str] = (),
    options: BenchOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Benched:
    """Measure latency on random clips: warmed up, in alternating rounds, as a ratio to the reference in the same run.

    The reference is the PyTorch network where it is measured, else the first FP32 artifact; of several folders, that of
    the first one without token selection. Writes bench.json into each folder. Raises ManifestError, OptionError,
    OutputError, and what loading and running the artifacts raises.
    """
    from ..runtimes.benchmark import benchmark
    from ..runtimes.latency import Timing
    from ..runtimes.machine.environment import read_environment, read_state
    from ..runtimes.tensorrt.cuda import find_gpu

    options = options or BenchOptions()
    runtimes = _check_options(options)
    manifests = find_networks(folders)
    subjects = _list_subjects(manifests, runtimes, options, notify)
    for manifest in manifests:
        require_writable(manifest.folder / BENCH_FILE)
    device = find_gpu()
    before = read_state(device=device)
    timing = Timing(
        options.seconds,
        options.rounds,
        warm_up_seconds=options.seconds,
        free_device_mb=_find_device_memory(subjects),
        read_state=partial(read_state, device=device),
    )
    measurement = benchmark(subjects, timing, progress)
    warnings = (*measurement.warnings, *find_other_work(before))
    document = {
        "format": BENCH_FORMAT,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **asdict(measurement),
        "warnings": warnings,
        "copies": COPIES,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "environment": read_environment(device=device),
        "state_before": before,
        "state_after": read_state(device=device),
        "tools": tool_versions(),
        "folders": [manifest.folder for manifest in manifests],
    }
    write_bench(document, manifests)
    return Benched(measurement, warnings, document)


def find_other_work(before: DeviceState) -> list[str]:
    """A warning where the machine had work of its own before anything was measured."""
    cores = os.cpu_count() or 1
    if before.load is None or before.load < BUSY_LOAD * cores:
        return []
    return [f"the machine was busy before: a load of {before.load:g} on {cores} cores; measure again when it is idle"]


def _check_options(options: BenchOptions) -> tuple[Runtime, ...] | None:
    """The runtimes asked for, None for all but PyTorch; raises OptionError for what cannot be measured."""
    if not 0 < options.seconds < math.inf or options.rounds < 2:
        raise OptionError(
            f"{options.seconds:g} seconds in {options.rounds} rounds", fix="measure for some time, in at least 2 rounds"
        )
    return None if options.runtimes is None else tuple(choose(Runtime, one, "runtime") for one in options.runtimes)


def _list_subjects(
    manifests: Sequence[Manifest], runtimes: Sequence[Runtime] | None, options: BenchOptions, notify: Notify
) -> list[Subject]:
    """All that is measured, the reference first, every file unchanged since it was written."""
    from ..runtimes.latency import Subject

    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    chosen = [(manifest, _select_artifacts(manifest, runtimes, options, notify)) for manifest in manifests]
    counts = Counter(artifact.path.name for _, artifacts in chosen for artifact in artifacts)
    subjects = []
    for manifest, artifacts in chosen:
        if runtimes is not None and Runtime.TORCH in runtimes:
            opened = partial(_open_torch, manifest, _find_checkpoint(manifest, checkpoint))
            subjects.append(Subject(f"PyTorch network {manifest.name}", None, opened))
        for artifact in artifacts:
            check_artifact(artifact)
            name = artifact.path.name if counts[artifact.path.name] == 1 else str(artifact.path)
            opened = partial(open_artifact, artifact, cuda_graph=True, notify=notify)
            taken = artifact.inputs[0].batches
            subjects += [
                Subject(name, artifact.sha256, opened, options.cuda_graph, batch)
                for batch in options.batches or (taken[-1],)
                if batch in taken
            ]
    return subjects


def _select_artifacts(
    manifest: Manifest, runtimes: Sequence[Runtime] | None, options: BenchOptions, notify: Notify
) -> Sequence[Artifact]:
    """FP32 first, which is the reference; raises ManifestError when nothing is left to measure."""
    formats = None if runtimes is None else [runtime.value for runtime in runtimes]
    found = [
        artifact
        for artifact in select_artifacts(manifest, options.against)
        if (formats is None or artifact.format in formats)
        and (options.batches is None or any(one in artifact.inputs[0].batches for one in options.batches))
    ]
    if not found and (runtimes is None or Runtime.TORCH not in runtimes):
        raise ManifestError(
            "no artifact of that runtime and batch is there", fix="export one: `dualexport onnx --batch N`"
        )
    found.sort(key=lambda artifact: artifact.precision is not Precision.FP32)
    return skip_stale(found, notify) if options.against == "all" else found


def _find_checkpoint(manifest: Manifest, checkpoint: Path | None) -> Path | None:
    """Load PyTorch, and find the file that its network is made of."""
    with needing_extra("bench"):
        from ..exporter.loading import find_checkpoint
    return find_checkpoint(manifest, checkpoint)


def _open_torch(manifest: Manifest, checkpoint: Path | None) -> TimedRunner:
    with needing_extra("bench"):
        return open_network(manifest, checkpoint)


def _find_device_memory(subjects: Sequence[Subject]) -> Callable[[], float | None]:
    """A function that tells how much of the GPU's memory is free, where an engine is measured."""
    if not any(subject.name.endswith(SUFFIX) for subject in subjects):
        return lambda: None
    from ..runtimes.tensorrt.cuda import open_cuda

    cuda = open_cuda()
    return lambda: cuda.free_bytes() / 1e6
