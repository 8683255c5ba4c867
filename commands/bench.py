"""`dualexport bench`: how fast the artifacts are, measured in one run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import Runtime
from . import console
from .options import MOST_BATCH, Folders, Json

if TYPE_CHECKING:
    from ..pipeline.bench import Benched
    from ..runtimes.latency import Latency
    from ..runtimes.machine.sampling import LoadSummary

EPILOG = "Example:\n\ndualexport bench dualformer-*/ --seconds 2"


def bench(
    folders: Folders = None,
    runtime: Annotated[
        list[Runtime] | None,
        typer.Option(help="May be repeated. Default: every artifact; torch, the reference then, only where asked for."),
    ] = None,
    against: Annotated[str, typer.Option(metavar="all|fp16,...", help="Which artifacts: precisions or files.")] = "all",
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=MOST_BATCH,
            help="Batches to measure, of artifacts that take them; may be repeated. Default: the largest.",
        ),
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
    from ..pipeline import bench as benching

    options = benching.BenchOptions(runtime, against, batch, seconds, rounds, checkpoint, cuda_graph)
    with console.show_progress() as reporter:
        benched = benching.bench(folders or (), options, progress=reporter.progress, notify=reporter.note)
    if as_json:
        console.print_json(benched.document)
    else:
        _print_latencies(benched)


def _print_latencies(benched: Benched) -> None:
    """Print a row an artifact, and what the machine was doing."""
    measurement = benched.measurement
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
        known = {key: value for key, value in asdict(benched.document[f"state_{name}"]).items() if value is not None}
        state = [f"{key} {value if isinstance(value, str) else f'{value:g}'}" for key, value in known.items()]
        console.print_text(f"machine {name}: {', '.join(state) or 'not known'}")
    _print_load(measurement.under_load)
    for warning in benched.warnings:
        console.note(warning)


def _print_load(load: LoadSummary | None) -> None:
    """The machine's state while it was measured."""
    if load is None:
        return
    spreads = {name: value for name, value in asdict(load).items() if isinstance(value, dict)}
    shown = [f"{name} {one['low']:g} to {one['high']:g}" for name, one in spreads.items()]
    shown += [f"slowed by {load.slowed_by}"] if load.slowed_by else []
    console.print_text(f"machine under load: {', '.join(shown) or 'not known'}")


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
