"""`dualexport bench`: how fast the artifacts are, measured in one run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import Precision, Runtime
from ..core.errors import ManifestError
from ..core.extras import needing_extra
from ..core.runner import TimedRunner
from ..core.types import Artifact
from ..pipeline.latency import write_bench
from ..pipeline.runners import open_artifact, open_network, skip_stale
from ..pipeline.verify import inputs
from ..report.bench import FORMAT as BENCH_FORMAT
from ..runtimes.tensorrt.engine_file import FORMAT
from . import console
from .options import MOST_BATCH, Folders, Json

if TYPE_CHECKING:
    from ..core.manifest import Manifest
    from ..runtimes.benchmark import Latency, Measurement, Subject
    from ..runtimes.machine.environment import DeviceState
    from ..runtimes.machine.sampling import LoadSummary

EPILOG = "Example:\n\ndualexport bench dualformer-*/ --seconds 2"
BUSY_LOAD = 0.5  # of the cores, in the minute before
COPIES = "Wall time around a run, copies between host and device included, except where a row says device events."


def bench(
    folders: Folders = None,
    runtime: Annotated[
        list[Runtime] | None,
        typer.Option(help="May be repeated. Default: every artifact; torch, the reference then, only where asked for."),
    ] = None,
    against: Annotated[str, typer.Option(metavar="all|fp16,...", help="Which artifacts: precisions or files.")] = "all",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, max=MOST_BATCH, help="Only artifacts that were exported with this batch; may be repeated."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="To measure each artifact for, after its warm-up.")
    ] = 10.0,
    rounds: Annotated[int, typer.Option(min=2, max=1000, help="In how many alternating rounds.")] = 5,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, for --runtime torch.")] = None,
    cuda_graph: Annotated[
        bool,
        typer.Option("--cuda-graph", help="Engines' wall time by a CUDA graph; rows of device events show both ways."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure latency on random clips: warmed up, in alternating rounds, as a ratio to the reference in the same run.

    The reference is the PyTorch network with --runtime torch, else the first FP32 artifact; of several folders, that
    of the first one without token selection. Writes DIR/bench.json, from which `dualexport verify --report` takes what
    it shows of latency.
    """
    from ..core.manifest import check_artifact, tool_versions
    from ..runtimes.benchmark import Timing, benchmark
    from ..runtimes.machine.environment import read_environment, read_state
    from ..runtimes.tensorrt.cuda import find_gpu

    manifests = inputs.find_networks(folders or ())
    chosen = [(one, _select(inputs.select_artifacts(one, against), runtime, batch)) for one in manifests]
    if against == "all":
        chosen = [(one, list(skip_stale(found, console.note))) for one, found in chosen]
    artifacts = [artifact for _, found in chosen for artifact in found]
    for artifact in artifacts:
        check_artifact(artifact)
    subjects = [subject for one, found in chosen for subject in _list_subjects(one, found, runtime, checkpoint)]
    subjects = [replace(one, cuda_graph=cuda_graph) for one in subjects]
    counts = Counter(artifact.path.name for artifact in artifacts)
    paths = {artifact.sha256: str(artifact.path) for artifact in artifacts if counts[artifact.path.name] > 1}
    subjects = [replace(one, name=paths.get(one.sha256 or "", one.name)) for one in subjects]
    device = find_gpu()
    before = read_state(device=device)
    with console.show_progress() as progress:
        timing = Timing(
            seconds,
            rounds,
            warm_up_seconds=seconds,
            free_device_mb=_find_device_memory(artifacts),
            read_state=partial(read_state, device=device),
        )
        measurement = benchmark(subjects, timing, progress)
    warnings = [*measurement.warnings, *_find_other_work(before)]
    document = {
        "format": BENCH_FORMAT,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **asdict(measurement),
        "warnings": warnings,
        "copies": COPIES,
        "seconds": seconds,
        "rounds": rounds,
        "environment": read_environment(device=device),
        "state_before": before,
        "state_after": read_state(device=device),
        "tools": tool_versions(),
        "folders": [manifest.folder for manifest in manifests],
    }
    if as_json:
        console.print_json(document)
    else:
        _print_latencies(measurement, document)
    write_bench(document, manifests)


def _find_other_work(before: DeviceState) -> list[str]:
    """A warning where the machine had work of its own before anything was measured."""
    cores = os.cpu_count() or 1
    if before.load is None or before.load < BUSY_LOAD * cores:
        return []
    return [f"the machine was busy before: a load of {before.load:g} on {cores} cores; measure again when it is idle"]


def _find_device_memory(artifacts: Sequence[Artifact]) -> Callable[[], float | None]:
    """What says how much of the GPU's memory is free, where an engine is measured."""
    if all(artifact.format != FORMAT for artifact in artifacts):
        return lambda: None
    from ..runtimes.tensorrt.cuda import open_cuda

    cuda = open_cuda()
    return lambda: cuda.free_bytes() / 1e6


def _select(artifacts: Sequence[Artifact], runtime: list[Runtime] | None, batch: list[int] | None) -> list[Artifact]:
    """FP32 first, which is the reference; raises ManifestError when nothing is left to measure."""
    found = [
        artifact
        for artifact in artifacts
        if (runtime is None or artifact.format in [choice.value for choice in runtime])
        and (batch is None or artifact.inputs[0].shape[0] in batch)
    ]
    if not found and (runtime is None or Runtime.TORCH not in runtime):
        raise ManifestError(
            "no artifact of that runtime and batch is there", fix="export one: `dualexport onnx --batch N`"
        )
    return sorted(found, key=lambda artifact: artifact.precision is not Precision.FP32)


def _list_subjects(
    manifest: Manifest, artifacts: Sequence[Artifact], runtime: list[Runtime] | None, checkpoint: Path | None
) -> list[Subject]:
    from ..runtimes.benchmark import Subject

    subjects = [
        Subject(
            artifact.path.name, artifact.sha256, partial(open_artifact, artifact, cuda_graph=True, notify=console.note)
        )
        for artifact in artifacts
    ]
    if runtime is not None and Runtime.TORCH in runtime:

        def open_torch() -> TimedRunner:
            with needing_extra("bench"):
                return open_network(manifest, checkpoint)

        subjects.insert(0, Subject(f"PyTorch network {manifest.name}", None, open_torch))
    return subjects


def _print_latencies(measurement: Measurement, document: dict[str, Any]) -> None:
    """A row an artifact, and what the machine was doing."""
    columns = (
        *("artifact", "runner", "time", "batch", "runs", "p50 ms", "p90", "p99", "max", "ms a clip", "clips a second"),
        *("load s", "peak MB", "ratio"),
    )
    console.print_table(
        f"Latency; ratio to {measurement.reference} in the same round",
        columns,
        [_row(one) for one in measurement.results],
    )
    for name in ("before", "after"):
        known = {key: value for key, value in asdict(document[f"state_{name}"]).items() if value is not None}
        state = [f"{key} {value if isinstance(value, str) else f'{value:g}'}" for key, value in known.items()]
        print(f"machine {name}: {', '.join(state) or 'not known'}")
    _print_load(measurement.under_load)
    for warning in document["warnings"]:
        console.note(warning)


def _print_load(load: LoadSummary | None) -> None:
    """The machine's state while it was measured."""
    if load is None:
        return
    spreads = {name: value for name, value in asdict(load).items() if isinstance(value, dict)}
    shown = [f"{name} {one['low']:g} to {one['high']:g}" for name, one in spreads.items()]
    shown += [f"slowed by {load.slowed_by}"] if load.slowed_by else []
    print(f"machine under load: {', '.join(shown) or 'not known'}")


def _row(one: Latency) -> tuple[str, ...]:
    ratio = f"{one.ratio.median:.2f} ({one.ratio.low:.2f} to {one.ratio.high:.2f})" if one.ratio else ""
    return (
        one.artifact,
        one.runner,
        ("wall" if one.copies.value == "included" else "device events") + ", CUDA graph" * one.cuda_graph,
        str(one.batch),
        str(one.runs),
        *(f"{value:.2f}" for value in (one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms, one.clip_ms)),
        f"{one.clips_a_second:.2f}",
        f"{one.load_seconds:.2f}",
        "" if one.host_peak_mb is None else f"{one.host_peak_mb:.0f}",
        ratio,
    )
