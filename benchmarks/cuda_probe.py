"""The project's real CUDA layer on a real GPU without TensorRT: an "engine" that launches PyTorch's kernels.

It answers like a deserialized engine, and runs on the stream that it is given. Useful on a GPU that TensorRT refuses:
it settles what a failed capture leaves, whether times hold launching, and whether everything is given back.
"""

from __future__ import annotations

import enum
import gc
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    import tensorrt
except ImportError:  # a stand-in with the few names that loading needs
    tensorrt: Any = types.ModuleType("tensorrt")  # type: ignore[no-redef]
    tensorrt.__version__ = "10.3.0"
    tensorrt.ILogger = type(
        "ILogger", (), {"Severity": enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")}
    )
    tensorrt.TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")  # type: ignore[misc]
    tensorrt.IProgressMonitor = type("IProgressMonitor", (), {})
    tensorrt.Builder = type("Builder", (), {})
    tensorrt.float32, tensorrt.uint8, tensorrt.nptype = "float32", "uint8", np.dtype
    sys.modules["tensorrt"] = tensorrt

from dualexport.core.types import TensorSpec
from dualexport.runtimes.machine.environment import read_state
from dualexport.runtimes.tensorrt.cuda import open_cuda
from dualexport.runtimes.tensorrt.load import DeviceLayer, LoadedEngine
from dualexport.runtimes.tensorrt.runner import TensorRTRunner

SHAPE = (1, 16, 3, 224, 224)
INPUT, OUTPUT = TensorSpec("clip", "uint8", SHAPE), TensorSpec("logits", "float32", SHAPE)
HEADER = b"ptrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(100)
KERNELS = ((1, 2_000_000), (170, 2_000), (170, 20_000), (230, 2_000), (230, 20_000))  # of so many cycles each


class Memory:
    """Device memory at an address, as PyTorch takes it."""

    def __init__(self, address: int, spec: TensorSpec) -> None:
        kind = np.dtype(spec.dtype).str
        self.__cuda_array_interface__ = {"shape": spec.shape, "typestr": kind, "data": (address, False), "version": 3}


class Engine:
    """uint8 -> float32 + 1, then so many kernels that sleep; `trouble` is called in every run from the second on."""

    device_memory_size_v2 = 0
    num_io_tensors = 2

    def __init__(self, kernels: int = 0, cycles: int = 0, trouble: Callable[[], None] | None = None) -> None:
        self.kernels, self.cycles, self.trouble = kernels, cycles, trouble
        self.contexts = 0
        self.said = "nothing said"

    @staticmethod
    def spec(name: str) -> TensorSpec:
        return INPUT if name == "clip" else OUTPUT

    def get_tensor_name(self, index: int) -> str:
        return ("clip", "logits")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.spec(name).shape

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(tensorrt, self.spec(name).dtype)

    def get_tensor_mode(self, name: str) -> Any:
        return tensorrt.TensorIOMode.INPUT if name == "clip" else tensorrt.TensorIOMode.OUTPUT

    def create_execution_context(self) -> Context:
        self.contexts += 1
        return Context(self)


class Context:
    """Runs the kernels on a stream of the project's."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.runs = engine, 0
        self.tensors: dict[str, torch.Tensor] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.tensors[name] = torch.as_tensor(Memory(address, Engine.spec(name)), device="cuda")
        return self.tensors[name].data_ptr() == address

    def execute_async_v3(self, handle: int) -> bool:
        self.runs += 1
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
                self.tensors["logits"].copy_(self.tensors["clip"])
                self.tensors["logits"].add_(1.0)
                for _ in range(self.engine.kernels):
                    torch.cuda._sleep(self.engine.cycles)
                if self.engine.trouble and self.runs > 1:
                    self.engine.trouble()
        except Exception as error:  # noqa: BLE001  # as TensorRT does: it logs, and returns False
            self.engine.said = repr(error)
            return False
        return True


def make(engine: Engine, told: list[str] | None = None, *, cuda_graph: bool = False) -> TensorRTRunner:
    """A runner of the project's over `engine`."""
    path = Path(tempfile.mkdtemp()) / "probe.engine"
    path.write_bytes(HEADER)
    layer = DeviceLayer(open_cuda(), lambda *_: LoadedEngine(engine, lambda: engine.said), "10.3.0", False)
    return TensorRTRunner(path, layer=layer, cuda_graph=cuda_graph, notify=(told if told is not None else []).append)


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of noise."""
    return {"clip": np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)}


def is_right(runner: TensorRTRunner, seed: int) -> bool:
    """True where the runner computes what the engine stands for."""
    batch = feeds(seed)
    return bool(np.array_equal(runner.infer(batch)["logits"], batch["clip"].astype(np.float32) + 1))


def results() -> dict[str, Any]:
    """Right numbers by launches and by a graph."""
    found = {}
    for graph in (False, True):
        with make(Engine(kernels=3, cycles=1000), cuda_graph=graph) as runner:
            found[f"graph {graph}"] = {"right of 20": sum(is_right(runner, seed) for seed in range(20))}
    return found


def timing() -> dict[str, Any]:
    """Times of kernels of known length: alone behind other work, and as the project times them."""
    found = {}
    for kernels, cycles in KERNELS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(3):
            torch.cuda._sleep(200_000_000)  # busy while all is queued: nothing of launching shows
            start.record()
            for _ in range(kernels):
                torch.cuda._sleep(cycles)
            end.record()
            torch.cuda.synchronize()
        row: dict[str, Any] = {"queued behind, ms": start.elapsed_time(end)}
        with make(Engine(kernels, cycles), cuda_graph=True) as runner:
            for graph in (False, True):
                with runner.prepared(feeds(), by_graph=graph) as run:
                    until = time.perf_counter() + 0.5
                    while time.perf_counter() < until:
                        run()
                    times = [run() for _ in range(200)]
                row[f"graph {graph}"] = {
                    "compute": quantiles([one.compute_ms for one in times]),
                    "enqueue": quantiles([one.enqueue_ms for one in times]),
                }
        found[f"{kernels} x {cycles}"] = row
    return found


def failed_capture() -> dict[str, Any]:
    """Allocate in a capture, as an engine may do: note what is told, and whether CUDA is usable after."""
    from cuda.bindings import runtime

    def trouble() -> None:
        code, *_ = runtime.cudaMalloc(64 << 20)
        if int(code):
            raise RuntimeError(f"cudaMalloc in a capture: {runtime.cudaGetErrorName(code)}")

    told: list[str] = []
    engine = Engine(trouble=trouble)
    with make(engine, told, cuda_graph=True) as runner:
        usable = is_right(runner, 1)
    return {"told": told, "engine said": engine.said, "left": str(runtime.cudaPeekAtLastError()), "usable": usable}


def capture_beside() -> dict[str, Any]:
    """Captures while another thread uses PyTorch's default stream."""
    stop, troubles = threading.Event(), []

    def noise() -> None:
        values = torch.ones(1 << 20, device="cuda")
        while not stop.is_set():
            try:
                values.add_(1)
                torch.cuda.current_stream().synchronize()
            except RuntimeError as error:
                troubles.append(str(error).splitlines()[0])
                time.sleep(0.01)

    thread = threading.Thread(target=noise)
    thread.start()
    told: list[str] = []
    wrong = 0
    for seed in range(50):
        with make(Engine(kernels=200, cycles=100), told, cuda_graph=True) as runner:
            wrong += not is_right(runner, seed)
    stop.set()
    thread.join()
    return {"captures failed of 50": len(told), "first": told[:1], "wrong": wrong, "others' troubles": troubles[:1]}


def leaks() -> dict[str, Any]:
    """Device memory that 200 openings and closings lose."""
    found, cuda = {}, open_cuda()
    for graph in (False, True):
        with make(Engine(kernels=5, cycles=100), cuda_graph=graph):
            pass
        gc.collect()
        before = cuda.free_bytes()
        for _ in range(200):
            with make(Engine(kernels=5, cycles=100), cuda_graph=graph) as runner:
                runner.infer(feeds())
        gc.collect()
        found[f"graph {graph}"] = {"bytes lost in 200": before - cuda.free_bytes()}
    return found


def threads() -> dict[str, Any]:
    """Eight threads on one runner."""
    wrong: list[Any] = []
    engine = Engine(kernels=20, cycles=5000)
    with make(engine, cuda_graph=True) as runner:

        def work(seed: int) -> None:
            wrong.extend(seed for _ in range(50) if not is_right(runner, seed))

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        hung = sum(worker.is_alive() for worker in workers)
    return {"wrong": len(wrong), "hung": hung, "contexts": engine.contexts}


def copies() -> dict[str, Any]:
    """Bandwidth of copies from and to pinned memory."""
    cuda, size = open_cuda(), 16 * 3 * 224 * 224 * 8 * 4
    device, host, stream = cuda.allocate(size), cuda.allocate_pinned(size), cuda.create_stream()
    start, end = cuda.create_event(), cuda.create_event()
    found = {}
    for name, copy in (
        ("in", lambda: cuda.copy_in(device, host, size, stream)),
        ("out", lambda: cuda.copy_out(host, device, size, stream)),
    ):
        times = []
        for _ in range(50):
            cuda.record(start, stream)
            copy()  # type: ignore[no-untyped-call]
            cuda.record(end, stream)
            cuda.synchronize(stream)
            times.append(cuda.elapsed_ms(start, end))
        found[name] = {"ms": quantiles(times), "GB/s": round(size / float(np.median(times)) / 1e6, 1), "bytes": size}
    return found


def lost_device() -> dict[str, Any]:
    """Let a kernel fail in a process of its own, to see whether that is told and whether closing hangs."""
    code = "import cuda_probe; cuda_probe.lose_device()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return {"status": done.returncode, "said": done.stdout[-1500:], "stderr": done.stderr[-800:]}


def lose_device() -> None:
    """Fail on the device, try again, and close."""

    def trouble() -> None:
        torch.zeros(4, device="cuda")[torch.full((4,), 99, device="cuda")]  # an assertion on the device, which stays

    runner = make(Engine(trouble=trouble))
    runner.infer(feeds())
    for turn in range(2):
        try:
            runner.infer(feeds())
            print("turn", turn, "no error", flush=True)
        except Exception as error:  # noqa: BLE001  # what it is, is the finding
            print("turn", turn, type(error).__name__, error, "| fix:", getattr(error, "fix", None), flush=True)
    runner.close()
    print("closed", flush=True)


def clocks() -> dict[str, Any]:
    """The machine's state idle, under load, and after."""
    found = {"idle": str(read_state())}
    values = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    until = time.perf_counter() + 2
    while time.perf_counter() < until:
        values @ values
    found["busy"] = str(read_state())
    torch.cuda.synchronize()
    found["right after"] = str(read_state())
    time.sleep(5)
    found["5 s after"] = str(read_state())
    return found


def quantiles(values: list[float]) -> list[float]:
    """p1, p50, p90 and p99."""
    return [round(float(value), 4) for value in np.quantile(values, (0.01, 0.5, 0.9, 0.99))]


def run_probe(name: str) -> dict[str, Any]:
    """One of the probes, by its name."""
    probes = (results, timing, failed_capture, copies, threads, leaks, capture_beside, lost_device, clocks)
    return next(probe for probe in probes if probe.__name__ == name)()
