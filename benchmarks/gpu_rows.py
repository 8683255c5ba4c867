"""One row of gpu_check, in a process of its own: its name says what is measured, its answer is a JSON file.

A device-side error stays with a process for good, which is why no two rows share one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from dualexport.core.errors import DualExportError, MissingDependencyError
from dualexport.core.manifest import Manifest, find_manifest
from dualexport.core.runner import GraphRunner, Runner, TimedRunner, infer_logits
from dualexport.core.types import Array, Artifact, Clip
from dualexport.runtimes.benchmark import benchmark
from dualexport.runtimes.expected import FILE_NAME, read_expected, write_expected
from dualexport.runtimes.latency import Subject, Timing
from dualexport.runtimes.machine.environment import read_environment, read_state
from dualexport.runtimes.machine.host import read_host
from dualexport.runtimes.machine.memory import read_available_bytes, read_peak_mb, read_swap_bytes
from dualexport.runtimes.machine.nvidia_smi import find_nvidia_smi
from dualexport.runtimes.tensorrt import cuda as cuda_layer
from dualexport.runtimes.tensorrt.engine_file import EngineOptions, read_record

ROOT = Path(__file__).parents[1]
CLIPS = 4
KEPT_LINES = 500
PACKAGES = (
    "torch",
    "tensorrt",
    "tensorrt-cu13-bindings",
    "tensorrt-rtx",
    "cuda-bindings",
    "onnxruntime",
    "onnx",
    "numpy",
)


class Skip(Exception):  # noqa: N818
    """A row that cannot be measured here, for want of what it names."""


@dataclass(frozen=True, slots=True)
class Task:
    """The row's place: its name in parts, its folder, and what it is measured with."""

    parts: tuple[str, ...]
    folder: Path | None
    clips: Path | None
    scratch: Path
    seconds: float
    dry_run: bool

    @property
    def manifest(self) -> Manifest:
        """The folder's manifest."""
        if self.folder is None:
            raise Skip("no folder was given")
        return find_manifest(self.folder)

    @property
    def graph(self) -> Artifact:
        """The ONNX file that the row is about."""
        return next(one for one in self.manifest.artifacts if one.path.name == self.parts[-1])

    @property
    def built(self) -> Path:
        """The engine of that file."""
        return self.scratch / f"{self.parts[1]}.{self.parts[-1]}.json"


def main() -> int:
    """Measure a row and write its answer, whatever that is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row")
    for name in ("--folder", "--clips", "--scratch", "--answer"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    parts = tuple(given.row.split("/"))
    task = Task(parts, given.folder, given.clips, given.scratch, given.seconds, given.dry_run)
    if given.dry_run:
        use_fake_device()
    try:
        answer: dict[str, Any] = {"found": KINDS[parts[0]](task)}
    except (Skip, ModuleNotFoundError, MissingDependencyError) as error:
        answer = {"skipped": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what was found
        answer = {"error": f"{type(error).__name__}: {error}", "fix": getattr(error, "fix", None)}
        answer["trace"] = traceback.format_exc()[-2000:]
    given.answer.write_text(json.dumps(answer, default=_to_json), encoding="utf-8")
    return 0


def use_fake_device() -> None:
    """Put the tests' fake GPU in the place of CUDA, for a rehearsal."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.fake_gpu import FakeRuntime

    runtime = FakeRuntime(capability=(9, 0))
    cuda_layer.open_cuda = partial(cuda_layer.Cuda, runtime)


def record_environment(task: Task) -> dict[str, Any]:
    """The machine, its versions, where its programs lie, and what is free."""
    device = cuda_layer.find_gpu()
    try:
        cuda_layer.open_cuda().start()
        started = "yes"
    except DualExportError as error:
        started = f"{error} | {error.fix}"
    smi = find_nvidia_smi()
    return {
        "device": device,
        "cuda_starts": started,
        "environment": read_environment(device=device),
        "state": read_state(device=device),
        "host": read_host(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "nvidia_smi": smi,
        "nvidia_smi_q": _say([smi, "-q"])[:6000] if smi else None,
        "libraries": [line.strip() for line in _say(["/sbin/ldconfig", "-p"]).splitlines() if "cuda" in line][:40],
        "jetson_packages": re.findall(r"ii\s+(\S*(?:nvinfer|cuda-compat|l4t-core)\S*\s+\S+)", _say(["dpkg", "-l"])),
        "available_bytes": read_available_bytes(),
        "swap_bytes": read_swap_bytes(),
        "dry_run": task.dry_run,
    }


def record_reference(task: Task) -> dict[str, Any]:
    """Logits to compare with, computed once: a bundle's own, else PyTorch's, else those of the FP32 file."""
    manifest = task.manifest
    if task.clips is None and (manifest.folder / FILE_NAME).is_file():
        with read_expected(manifest.folder / FILE_NAME, manifest.preprocessing) as runner:
            return {"reference": runner.name, "clips": len(runner.clips)}
    with open_reference(manifest) as runner:
        count = write_expected(task.scratch / f"{task.parts[1]}.npz", runner, list_clips(task, manifest))
        return {"reference": runner.name, "clips": count}


def record_build(task: Task) -> dict[str, Any]:
    """An engine, what TensorRT said, the kernels it chose and the memory that was left meanwhile."""
    from dualexport.runtimes.tensorrt.build import BuildPlace, build_engine
    from dualexport.runtimes.tensorrt.configure import find_device

    if task.dry_run:
        raise Skip("an engine is not built in a rehearsal")
    said: list[str] = []
    cuda, free = cuda_layer.open_cuda(), []
    place = BuildPlace(task.scratch, find_device(), read_host(), tell=said.append, verbose=True)
    with _beside(lambda: free.append((cuda.free_bytes(), read_available_bytes()))):
        begun = time.perf_counter()
        engine = build_engine(task.graph, task.parts[1], place, EngineOptions())
        took = time.perf_counter() - begun
    task.built.write_text(json.dumps({"path": str(engine.path), "options": dict(engine.options)}), encoding="utf-8")
    plan = engine.path.with_suffix(".plan.json")
    return {
        "record": dict(engine.options),
        "seconds": took,
        "kernels": Counter(kernel for line in said for kernel in re.findall(r"TacticName: ([^,]+),", line)),
        "unproven_plan": json.loads(plan.read_text(encoding="utf-8")) if plan.is_file() else None,
        "least_free_device_bytes": min(one for one, _ in free) if free else None,
        "least_available_bytes": min((one or 0 for _, one in free), default=None),
        "host_peak_mb": read_peak_mb(),
        "log": said[-KEPT_LINES:],
    }


def record_engine(task: Task) -> dict[str, Any]:
    """An engine's numbers against the reference, its times, and whether it gives everything back."""
    with open_engine(task) as runner:
        found = measure_runner(runner, task)
        found["contexts"] = compare_contexts(runner, task)
        found["has_graph"] = runner.has_graph if isinstance(runner, GraphRunner) else False
        found["threads"] = time_threads(runner, task)
        found["lost_in_runs_bytes"] = count_lost(lambda: repeat(runner, task, 20 if task.dry_run else 1000))
    reopenings = 2 if task.dry_run else 20
    found["lost_in_reopening_bytes"] = count_lost(lambda: reopen(task, reopenings))
    return found


def record_onnx(task: Task) -> dict[str, Any]:
    """The file with ONNX Runtime on the CPU, or with its provider over TensorRT for RTX."""
    from dualexport.core.choices import Provider
    from dualexport.runtimes.onnx_runner import OnnxRunner

    provider = Provider.TENSORRT_RTX if task.parts[0] == "rtx-provider" else Provider.CPU
    with OnnxRunner(task.graph.path, provider) as runner:
        return measure_runner(runner, task)


def record_torch(task: Task) -> dict[str, Any]:
    """A network in PyTorch in FP16: its times, and how close it is to the plain one in FP32."""
    from gpu_torch import time_network

    measured: dict[str, Any] = time_network(*task.parts[1:], seconds=task.seconds, dry_run=task.dry_run)
    return measured


def record_products(task: Task) -> dict[str, Any]:
    """The linear layers' products alone, in FP16 and in INT8: the most that INT8 can save."""
    from gpu_torch import time_products

    measured: dict[str, Any] = time_products(*task.parts[1:], seconds=task.seconds, dry_run=task.dry_run)
    return measured


def record_probe(task: Task) -> dict[str, Any]:
    """The project's CUDA layer over kernels of PyTorch."""
    from cuda_probe import run_probe

    if task.dry_run:
        raise Skip("needs a GPU: its kernels are PyTorch's")
    found: dict[str, Any] = run_probe(task.parts[1])
    return found


def record_tests(task: Task) -> dict[str, Any]:
    """The tests behind the mark `gpu`."""
    if task.dry_run:
        raise Skip("needs a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"passed": done.returncode == 0, "said": done.stdout[-3000:]}


KINDS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "environment": record_environment,
    "reference": record_reference,
    "build": record_build,
    "engine": record_engine,
    "onnx": record_onnx,
    "rtx-provider": record_onnx,
    "torch": record_torch,
    "products": record_products,
    "probe": record_probe,
    "tests": record_tests,
}


def open_reference(manifest: Manifest) -> TimedRunner:
    """The PyTorch network where its weights and PyTorch are here, else the FP32 file."""
    from dualexport.pipeline.runners import open_artifact, open_network

    try:
        return open_network(manifest)
    except (DualExportError, ModuleNotFoundError):
        return open_artifact(next(one for one in manifest.artifacts if one.format == "onnx"))


def list_clips(task: Task, manifest: Manifest) -> list[Clip]:
    """The videos' first clips, or noise of a fixed seed, for which no decoder is needed."""
    if task.clips is not None:
        from dualexport.pipeline.clips import Clips

        return list(islice(Clips(task.clips, skip_unreadable=True).open(manifest.preprocessing), CLIPS))
    clip = manifest.preprocessing
    random = np.random.default_rng(0)
    shape = (clip.frames, clip.size, clip.size, 3)
    return [Clip(f"noise {n}", n, random.integers(0, 256, shape, dtype=np.uint8), clip) for n in range(CLIPS)]


def open_engine(task: Task) -> Any:
    """The engine that the build row made, with a CUDA graph; in a rehearsal one that answers with zeros."""
    from dualexport.runtimes.tensorrt.runner import TensorRTRunner

    if task.dry_run:
        from support.fake_gpu import FAKE_ENGINE, FakeEngine, FakeRuntime, make_layer

        graph = task.graph
        zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in graph.outputs}
        layer = make_layer(FakeEngine(FakeRuntime(), (graph.inputs, graph.outputs), lambda _: zeros))
        (path := task.scratch / "fake.engine").write_bytes(FAKE_ENGINE)
        return TensorRTRunner(path, cuda_graph=True, layer=layer, notify=print)
    if not task.built.is_file():
        raise Skip("no engine was built")
    stored = json.loads(task.built.read_text(encoding="utf-8"))
    engine = Artifact(**{**asdict_shallow(task.graph), "path": Path(stored["path"]), "options": stored["options"]})
    return TensorRTRunner(engine.path, read_record(engine), cuda_graph=True, notify=print)


def asdict_shallow(artifact: Artifact) -> dict[str, Any]:
    """An artifact's fields."""
    return {name: getattr(artifact, name) for name in artifact.__dataclass_fields__}


def measure_runner(runner: TimedRunner, task: Task) -> dict[str, Any]:
    """The distance of a runner from the reference, and all its times."""
    device = cuda_layer.find_gpu()
    timing = Timing(
        seconds=task.seconds,
        rounds=2,
        warm_up_seconds=max(0.2, task.seconds / 2),
        gpu_warm_up_seconds=0.0 if task.dry_run else 1.0,
        gpu_wake_up_seconds=0.0 if task.dry_run else 0.2,
        read_state=partial(read_state, device=device),
    )
    with ExitStack() as kept:
        borrowed = _Borrowed(runner)
        cpu, begun = time.thread_time(), time.perf_counter()
        measurement = benchmark([Subject(task.parts[-1], None, lambda: kept.enter_context(borrowed))], timing)
        share = (time.thread_time() - cpu) / (time.perf_counter() - begun)
    return {
        "runner": runner.name,
        "numbers": compare_logits(runner, task),
        "measurement": measurement,
        "cpu_share": round(share, 3),
    }


class _Borrowed:
    """A runner that stays open when what measures it lets it go."""

    def __init__(self, runner: TimedRunner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def compare_logits(runner: Runner, task: Task) -> dict[str, Any] | None:
    """The runner's logits against the reference's on the reference's clips."""
    manifest = task.manifest
    own = task.scratch / f"{task.parts[1]}.npz"
    path = own if own.is_file() else manifest.folder / FILE_NAME
    if not path.is_file():
        return None
    with read_expected(path, manifest.preprocessing) as expected:
        clips = list(expected.clips)
        return describe_difference(infer_logits(expected, clips), infer_logits(runner, clips))


def describe_difference(expected: Array, logits: Array) -> dict[str, float]:
    """Signal to noise, cosine, largest difference and agreement in the best class."""
    noise = np.square(expected - logits, dtype=np.float64).sum()
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(logits, axis=1)
    cosine = (expected * logits).sum(axis=1) / np.maximum(lengths, 1e-30)
    return {
        "clips": len(expected),
        "snr_db": float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / max(noise, 1e-30))),
        "smallest_cosine": float(cosine.min()),
        "largest_difference": float(np.abs(expected - logits).max()),
        "top1_agreement": float((expected.argmax(axis=1) == logits.argmax(axis=1)).mean()),
    }


def compare_contexts(runner: Any, task: Task) -> dict[str, bool]:
    """True where two runs, two contexts, and a graph and single launches give the same bits."""
    feeds = make_input(runner)
    first = runner.infer(feeds)
    equal = {
        "two runs": same(first, runner.infer(feeds)),
        "graph and launches": same(first, runner.infer(feeds, by_graph=False)),
    }
    with runner.prepared(feeds):
        equal["two contexts"] = same(first, runner.infer(feeds))
    assert task.parts
    return equal


def time_threads(runner: Any, task: Task, threads: int = 2) -> dict[str, float]:
    """Batches a second of one thread and of two, copies included."""
    feeds = make_input(runner)

    def work(until: float, counts: list[int]) -> None:
        done = 0
        while time.perf_counter() < until:
            runner.infer(feeds)
            done += 1
        counts.append(done)

    found = {}
    for number in (1, threads):
        counts: list[int] = []
        until = time.perf_counter() + task.seconds / 2
        workers = [threading.Thread(target=work, args=(until, counts)) for _ in range(number)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found[f"{number} threads"] = round(sum(counts) / (task.seconds / 2), 2)
    return found


def repeat(runner: Runner, task: Task, runs: int) -> None:
    """Run the same batch over and over."""
    assert task.parts
    feeds = make_input(runner)
    for _ in range(runs):
        runner.infer(feeds)


def reopen(task: Task, times: int) -> None:
    """Open and close the engine over and over."""
    for _ in range(times):
        with open_engine(task) as runner:
            runner.infer(make_input(runner))


def count_lost(work: Callable[[], None]) -> int:
    """Device memory that is gone after `work`."""
    cuda = cuda_layer.open_cuda()
    before = cuda.free_bytes()
    work()
    return before - cuda.free_bytes()


def make_input(runner: Runner) -> dict[str, Array]:
    """A batch of noise."""
    from dualexport.runtimes.benchmark import make_feeds

    return make_feeds(runner, 0)


def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
    """True where all outputs are equal, bit by bit."""
    return all(np.array_equal(one[name], other[name]) for name in one)


@contextmanager
def _beside(look: Callable[[], object], seconds: float = 0.2) -> Iterator[None]:
    """Call `look` in a thread, again and again, while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _say(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
