"""What holds on a machine with an NVIDIA GPU: engines built, all runtimes compared and timed on clips, the tests run.

Called by scripts/gpu-check. Prints one table and writes one JSON document; exits with 1 when anything failed. What a
runtime refuses is a row of the table, with its message, and does not end the run; what is not installed is no failure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from dualexport.cli import main as dualexport
from dualexport.commands import console
from dualexport.core.errors import DualExportError, MissingDependencyError
from dualexport.core.manifest import Manifest, find_manifest, tool_versions
from dualexport.core.plain import to_json
from dualexport.core.runner import Runner, TimedRunner
from dualexport.core.types import Artifact, Clip
from dualexport.pipeline.parity import open_clips
from dualexport.pipeline.runners import limits_of, open_artifact, open_network
from dualexport.runtimes.machine.host import read_host
from dualexport.runtimes.tensorrt.cuda import open_cuda
from dualexport.runtimes.tensorrt.engine_file import EngineOptions, read_record
from dualexport.verification.compare import Candidate, compare
from dualexport.verification.limits import DEFAULT_LIMITS

ROOT = Path(__file__).parents[1]
WARM_UP_SECONDS = 1.0
CLIPS = 8
LEAST_CALLS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run one file. Milliseconds are of one batch; `gpu_ms` by events on the GPU, without copies; `wall_ms`
    around a call that waits, without copies; `copied_ms` the same with copies in and out. Each is (p50, p90, p99)."""

    file: str
    runner: str
    largest_difference: float | None = None
    top1_agreement: float | None = None
    passed: bool | None = False  # None: not installed
    gpu_ms: tuple[float, float, float] | None = None
    wall_ms: tuple[float, float, float] | None = None
    copied_ms: tuple[float, float, float] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Measuring:
    """The reference, clips and seconds of every row."""

    reference: Runner
    clips: tuple[Clip, ...]
    seconds: float


def main() -> int:
    arguments = parse_arguments()
    device = open_cuda().device()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        folders = arguments.folders or [export_nano(Path(scratch))]
        rows = [row for folder in folders for row in check_folder(folder, arguments, Path(scratch))]
    tests = None if arguments.skip_tests else run_gpu_tests()
    document = {
        "device": device,
        "host": read_host(),
        "tools": tool_versions(),
        "rows": rows,
        "gpu_tests_passed": tests,
    }
    arguments.output.write_text(to_json(document), encoding="utf-8")
    print_rows(f"{device.name}, compute capability {device.compute_capability}", rows)
    print(f"GPU tests: {'not run' if tests is None else 'passed' if tests else 'FAILED'}; written: {arguments.output}")
    return 1 if tests is False or any(row.passed is False for row in rows) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="exported folders; default: size n, exported here")
    parser.add_argument("--clips", type=Path, help="videos to compare on; default: generated ones")
    parser.add_argument("--seconds", type=float, default=5.0, help="to time each way of running for")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--skip-tests", action="store_true", help="leave the tests that need a GPU out")
    return parser.parse_args()


def export_nano(scratch: Path) -> Path:
    try:
        dualexport(["onnx", "--model", "n", "--output", str(scratch / "dualformer-n")])
    except SystemExit as ended:
        if ended.code:
            raise
    return scratch / "dualformer-n"


def check_folder(folder: Path, arguments: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    """Every ONNX file of a folder, by ONNX Runtime and as an engine, with and without a CUDA graph."""
    manifest = find_manifest(folder)
    graphs = [artifact for artifact in manifest.artifacts if artifact.format == "onnx"]
    clips = tuple(islice(open_clips(arguments.clips, manifest.preprocessing, 1, True, CLIPS), CLIPS))
    with open_reference(manifest, graphs) as reference:
        measuring = Measuring(reference, clips, arguments.seconds)
        print(f"{manifest.name}: compared with {reference.name} on {len(clips)} clips", file=sys.stderr)
        for graph in graphs:
            yield check(graph, graph.path.name, partial(open_artifact, graph), measuring)
            yield check(graph, graph.path.name, partial(open_rtx_provider, graph), measuring)
            engine: list[Artifact] = []
            for cuda_graph in (False, True):
                open_engine = opener(graph, manifest.name, scratch, engine, cuda_graph=cuda_graph)
                yield check(graph, f"{graph.path.name}, engine{', CUDA graph' * cuda_graph}", open_engine, measuring)


def open_reference(manifest: Manifest, graphs: list[Artifact]) -> TimedRunner:
    """The PyTorch network where its weights are here, else the FP32 file."""
    try:
        return open_network(manifest)
    except (DualExportError, ModuleNotFoundError) as error:
        print(f"no PyTorch reference: {error}", file=sys.stderr)
        return open_artifact(graphs[0])


def open_rtx_provider(graph: Artifact) -> TimedRunner:
    from dualexport.core.choices import Provider
    from dualexport.runtimes.onnx_runner import OnnxRunner

    return OnnxRunner(graph.path, Provider.TENSORRT_RTX)


def opener(
    graph: Artifact, name: str, scratch: Path, built: list[Artifact], *, cuda_graph: bool
) -> Callable[[], TimedRunner]:
    """Opens the engine of a graph, which is built when it is first needed."""

    def open_engine() -> TimedRunner:
        from dualexport.runtimes.tensorrt.build import BuildPlace, build_engine
        from dualexport.runtimes.tensorrt.runner import TensorRTRunner

        if not built:
            place = BuildPlace(scratch, device=open_cuda().device(), host=read_host())
            built.append(build_engine(graph, name, place, EngineOptions()))
        return TensorRTRunner(built[0].path, read_record(built[0]), cuda_graph=cuda_graph)

    return open_engine


def check(artifact: Artifact, title: str, open_runner: Callable[[], TimedRunner], measuring: Measuring) -> Row:
    """Compare and time one way of running; what it refuses is the row's error."""
    row = Row(title, "")
    print(f"{title} ...", file=sys.stderr)
    try:
        with open_runner() as runner:
            row = replace(row, runner=runner.name)
            engine = replace(artifact, format="tensorrt") if "TensorRT" in runner.name else artifact
            candidate = Candidate(runner, limits_of(engine, DEFAULT_LIMITS, None))
            (report,) = compare(measuring.reference, {title: candidate}, measuring.clips).reports
            gpu_ms, wall_ms, copied_ms = time_runner(runner, measuring.clips[0], measuring.seconds)
            return replace(
                row,
                largest_difference=report.largest_difference,
                top1_agreement=report.top1_agreement,
                passed=report.passed,
                gpu_ms=gpu_ms,
                wall_ms=wall_ms,
                copied_ms=copied_ms,
            )
    except MissingDependencyError as error:
        return replace(row, passed=None, error=str(error))
    except DualExportError as error:
        return replace(row, error=str(error))


Percentiles = tuple[float, float, float]


def time_runner(runner: TimedRunner, clip: Clip, seconds: float) -> tuple[Percentiles | None, Percentiles, Percentiles]:
    """(p50, p90, p99) milliseconds of a batch: on the GPU, by the wall clock, and with copies."""
    spec = runner.inputs[0]
    batch = np.repeat(clip.network_input(spec.dtype)[None], spec.shape[0], axis=0)
    feeds = {spec.name: batch}
    with runner.prepared(feeds) as run:
        repeat(run, WARM_UP_SECONDS)
        wall, returned = repeat(run, seconds)
    copied, _ = repeat(lambda: runner.infer(feeds), seconds)
    on_gpu = [value for value in returned if isinstance(value, float)]
    return (percentiles(on_gpu) if on_gpu else None), percentiles(wall), percentiles(copied)


def repeat(run: Callable[[], object], seconds: float) -> tuple[list[float], list[object]]:
    """Milliseconds of each call for so many seconds, at least LEAST_CALLS, and what the calls returned."""
    times: list[float] = []
    returned: list[object] = []
    until = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or time.perf_counter() < until:
        start = time.perf_counter()
        returned.append(run())
        times.append((time.perf_counter() - start) * 1e3)
    return times, returned


def percentiles(values: list[float]) -> Percentiles:
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    return p50, p90, p99


def run_gpu_tests() -> bool:
    """Run the tests behind the mark `gpu`; True where they pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def print_rows(title: str, rows: list[Row]) -> None:
    columns = ("file", "runner", "largest diff", "top-1", "GPU ms", "wall ms", "with copies", "p99", "result")
    shown = []
    for row in rows:
        if row.error is not None:
            shown.append((row.file, row.runner, *[""] * 6, row.error))
            continue
        milliseconds = [f"{times[0]:.3f}" if times else "" for times in (row.gpu_ms, row.wall_ms, row.copied_ms)]
        p99 = f"{row.wall_ms[2]:.3f}" if row.wall_ms else ""
        accuracy = (f"{row.largest_difference:.1e}", f"{row.top1_agreement:.0%}")
        shown.append((row.file, row.runner, *accuracy, *milliseconds, p99, "PASS" if row.passed else "FAIL"))
    console.print_table(title, columns, shown)


@contextmanager
def two_line_errors() -> Iterator[None]:
    try:
        yield
    except DualExportError as error:
        console.print_error(str(error), error.fix)
        sys.exit(1)


if __name__ == "__main__":
    with two_line_errors():
        sys.exit(main())
