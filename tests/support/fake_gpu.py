"""A GPU without a GPU: what answers like cuda.bindings.runtime and like a deserialized engine, and injects failures.

It is strict where a real device is silent: queued work happens at synchronization and not before, memory that is freed
or too small is an error at once, and everything allocated is counted.
"""

# ruff: noqa: N802  # the names are CUDA's

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from dualexport.core.errors import EngineError
from dualexport.core.types import Array, TensorSpec
from dualexport.runtimes.tensorrt.cuda import Cuda
from dualexport.runtimes.tensorrt.load import DeviceLayer, LoadedEngine

OUT_OF_MEMORY = 2
LAUNCH_FAILURE = 719
CAPTURE_INVALIDATED = 901
FREE_BYTES = 1 << 30

ERROR_NAMES = {
    OUT_OF_MEMORY: b"cudaErrorMemoryAllocation",
    CAPTURE_INVALIDATED: b"cudaErrorStreamCaptureInvalidated",
    35: b"cudaErrorInsufficientDriver",
}

Function = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Work:
    """Something queued on a stream: what it does, how long the GPU takes for it, and when it was queued."""

    action: Callable[[], None]
    gpu_ms: float
    queued_ms: float


@dataclass(frozen=True)
class Failure:
    """A call's own failure."""

    code: int


class FakeRuntime:
    """The module cuda.bindings.runtime; `fail_at` names a call and which of its calls fails, `code` with what."""

    cudaMemcpyKind = IntEnum("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    cudaStreamCaptureMode = IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})

    def __init__(self, capability: tuple[int, int] = (8, 7), fail_at: tuple[str, int] = ("", 0)) -> None:
        self.alive: dict[int, tuple[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.fail_at = fail_at
        self.code = OUT_OF_MEMORY
        self.lost = False  # every call on the device fails, as after an illegal access
        self.queues: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work]] = {}
        self.host_ms, self.gpu_ms = 0.0, 0.0  # the time on either side; nothing here takes real time
        self.launch_ms, self.compute_ms, self.copy_ms = 0.25, 1.5, 0.125
        self.invalidated: set[int] = set()  # streams whose capture met something that cannot be captured
        self.last_error = (
            0  # of a call that failed, until cudaGetLastError is asked: PyTorch's next launch would see it
        )
        self.driver_version = 12060
        self.integrated = 0
        self._capability = capability
        self._next = 1000

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        """A call by its name, counted, and failed where it is to fail."""
        if not name.startswith("cuda"):
            raise AttributeError(name)
        work = getattr(type(self), f"_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls[name] += 1
            if self.lost or (name, self.calls[name]) == self.fail_at:
                self.capturing = {} if name == "cudaStreamEndCapture" else self.capturing
                return self._fail(LAUNCH_FAILURE if self.lost else self.code)
            result = work(self, *arguments)
            if isinstance(result, Failure):
                return self._fail(result.code)
            return (0, *(result if isinstance(result, tuple) else () if result is None else (result,)))

        return call

    def _fail(self, code: int) -> tuple[int, None]:
        self.last_error = code
        return (code, None)

    def invalidate(self, stream: int) -> None:
        """End the capture that is under way, as a call that cannot be captured does."""
        if stream in self.capturing:
            self.invalidated.add(stream)

    def cudaGetLastError(self) -> tuple[int]:
        found, self.last_error = self.last_error, 0
        return (found,)

    def queue(self, stream: int, action: Callable[[], None], gpu_ms: float = 0.0) -> None:
        """Queue work that takes the GPU so long, and begins no earlier than it is queued."""
        assert stream in self.alive, "a stream that is not there"
        work = Work(action, gpu_ms, self.host_ms)
        (self.capturing if stream in self.capturing else self.queues)[stream].append(work)

    def _do(self, work: Work) -> None:
        self.gpu_ms = max(self.gpu_ms, work.queued_ms) + work.gpu_ms
        work.action()

    def _make(self, kind: str, value: Any = None, handle: int | None = None) -> int:
        self._next += 1
        handle = handle or self._next
        self.alive[handle] = (kind, value)
        return handle

    def _drop(self, kind: str, handle: int) -> None:
        assert not any(self.queues.values()), f"{kind} freed with work under way"
        assert self.alive.pop(handle)[0] == kind

    def _check(self, kind: str, address: int, size: int) -> None:
        made, memory = self.alive[address]
        assert (made, len(memory) >= size) == (kind, True), f"{size} bytes at {made} memory of {len(memory)}"

    def _cudaGetErrorName(self, code: int) -> tuple[int, bytes]:
        return (0, ERROR_NAMES.get(code, b"cudaErrorLaunchFailure"))

    def cudaGetErrorName(self, code: int) -> tuple[int, bytes]:  # never fails, also on a lost device
        return self._cudaGetErrorName(code)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return (0, FREE_BYTES, 2 * FREE_BYTES)

    def _cudaGetDeviceCount(self) -> int:
        return 1

    def cudaDriverGetVersion(self) -> tuple[int, int]:
        return (0, self.driver_version)

    def cudaRuntimeGetVersion(self) -> tuple[int, int]:
        return (0, 13000)

    def _cudaGetDeviceProperties(self, _: int) -> SimpleNamespace:
        major, minor = self._capability
        place = {"pciDomainID": 0, "pciBusID": 0x3B, "pciDeviceID": 0, "integrated": self.integrated}
        return SimpleNamespace(name=b"Fake\0\0", major=major, minor=minor, totalGlobalMem=2 * FREE_BYTES, **place)

    def _cudaMalloc(self, size: int) -> int:
        memory = (ctypes.c_uint8 * size)()
        return self._make("device", memory, ctypes.addressof(memory))

    def _cudaFree(self, address: int) -> None:
        if address:  # freeing nothing makes the context
            self._drop("device", address)

    def _cudaHostAlloc(self, size: int, _: int) -> int:
        memory = (ctypes.c_uint8 * size)()
        return self._make("pinned", memory, ctypes.addressof(memory))

    def _cudaFreeHost(self, address: int) -> None:
        self._drop("pinned", address)

    def _cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        kinds = ("device", "pinned") if kind == 1 else ("pinned", "device")

        def copy() -> None:
            self._check(kinds[0], target, size)
            self._check(kinds[1], source, size)
            ctypes.memmove(target, source, size)

        self.queue(stream, copy, self.copy_ms)

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:
        assert flags == 1, "a stream that waits for the legacy default stream"
        stream = self._make("stream")
        self.queues[stream] = []
        return stream

    def _cudaStreamDestroy(self, stream: int) -> None:
        self._drop("stream", stream)

    def _cudaStreamSynchronize(self, stream: int) -> None:
        assert stream not in self.capturing, "synchronized in a capture"
        work, self.queues[stream] = self.queues[stream], []
        for item in work:
            self._do(item)
        self.host_ms = max(self.host_ms, self.gpu_ms)

    def _cudaEventCreate(self) -> int:
        return self._make("event", [])

    def _cudaEventDestroy(self, event: int) -> None:
        self._drop("event", event)

    def _cudaEventRecord(self, event: int, stream: int) -> None:
        times = self.alive[event][1]
        times.clear()
        self.queue(stream, lambda: times.append(self.gpu_ms))

    def _cudaEventSynchronize(self, event: int) -> None:
        """Work in order until the event is passed; a stream's work stays queued behind it."""
        for queue in self.queues.values():
            while queue and not self.alive[event][1]:
                self._do(queue.pop(0))
        self.host_ms = max(self.host_ms, *self.alive[event][1])

    def _cudaEventElapsedTime(self, start: int, end: int) -> float:
        assert self.alive[start][1], "not recorded"
        assert self.alive[end][1], "not recorded"
        return float(self.alive[end][1][0] - self.alive[start][1][0])

    def _cudaStreamBeginCapture(self, stream: int, _: int) -> None:
        assert not self.queues[stream], "captured with work under way"
        self.capturing[stream] = []

    def _cudaStreamEndCapture(self, stream: int) -> int | Failure:
        work = self.capturing.pop(stream)
        if stream in self.invalidated:
            self.invalidated.remove(stream)
            return Failure(CAPTURE_INVALIDATED)
        return self._make("graph", work)

    def _cudaGraphInstantiate(self, graph: int, _: int) -> int:
        return self._make("executable", self.alive[graph][1])

    def _cudaGraphDestroy(self, graph: int) -> None:
        self._drop("graph", graph)

    def _cudaGraphExecDestroy(self, graph: int) -> None:
        self._drop("executable", graph)

    def _cudaGraphLaunch(self, graph: int, stream: int) -> None:
        for work in self.alive[graph][1]:
            self.queue(stream, work.action, work.gpu_ms)


class FakeEngine:
    """An ICudaEngine that computes by `function`; `refuse_at` is the run that enqueue does not take, from 1.

    Where `layers` says so, its layers take these milliseconds, which a profiler is told, and all of it `overhead_ms`
    more.
    """

    def __init__(
        self,
        runtime: FakeRuntime,
        bindings: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
        function: Function,
        refuse_at: int = 0,
        layers: tuple[tuple[str, float], ...] = (),
    ) -> None:
        import tensorrt as trt

        self.inputs, self.outputs = bindings
        self.runtime = runtime
        self.function = function
        self.refuse_at = refuse_at
        self.layers = layers
        self.overhead_ms = 0.0
        self.runs = 0
        self.contexts = 0
        self.configurations: list[Any] = []
        self.no_context = False
        self.num_io_tensors = len(self.inputs + self.outputs)
        self.device_memory_size_v2 = 64 << 20
        self._modes = (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        names = {"float32": trt.float32, "uint8": trt.uint8, "int64": trt.int64}
        self._types = {spec.name: names[spec.dtype] for spec in self.inputs + self.outputs}

    def get_tensor_name(self, index: int) -> str:
        return (self.inputs + self.outputs)[index].name

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        spec = self.spec(name)
        return spec.shape if spec.least_batch is None else (-1, *spec.shape[1:])

    def get_tensor_profile_shape(self, name: str, _: int) -> tuple[tuple[int, ...], ...]:
        spec = self.spec(name)
        assert spec.least_batch is not None
        return (spec.least_batch, *spec.shape[1:]), spec.shape, spec.shape

    def get_tensor_dtype(self, name: str) -> Any:
        return self._types[name]

    def get_tensor_mode(self, name: str) -> Any:
        return self._modes[name in {spec.name for spec in self.outputs}]

    def create_execution_context(self, configuration: Any = None) -> FakeContext | None:
        self.contexts += 1
        self.configurations += [configuration] if configuration else []
        return None if self.no_context else FakeContext(self)

    def spec(self, name: str) -> TensorSpec:
        return next(spec for spec in self.inputs + self.outputs if spec.name == name)


class FakeContext:
    """An IExecutionContext over the fake's memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._batch = engine.inputs[0].shape[0] if engine.inputs and engine.inputs[0].least_batch is None else 0
        self.profiler: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        spec = self._engine.spec(name)
        assert shape[1:] == spec.shape[1:]
        self._batch = shape[0]
        return shape[0] in spec.batches

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self._batch or not self._engine.inputs, "no batch was set"
        self._engine.runs += 1
        if self._engine.runs == self._engine.refuse_at:
            self._engine.runtime.invalidate(stream)
            return False
        runtime = self._engine.runtime
        runtime.host_ms += runtime.launch_ms
        layers = self._engine.layers
        whole = sum(time for _, time in layers) + self._engine.overhead_ms if layers else runtime.compute_ms
        runtime.queue(stream, self._compute, whole)
        for name, time in layers if self.profiler is not None else ():
            self.profiler.report_layer_time(name, time)
        return True

    def _compute(self) -> None:
        feeds = {spec.name: self._memory(spec)[: self._batch].copy() for spec in self._engine.inputs}
        for name, value in self._engine.function(feeds).items():
            self._memory(self._engine.spec(name))[: self._batch] = value

    def _memory(self, spec: TensorSpec) -> Array:
        size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        self._engine.runtime._check("device", self._addresses[spec.name], size)
        memory = (ctypes.c_uint8 * size).from_address(self._addresses[spec.name])
        return np.ctypeslib.as_array(memory).view(spec.dtype).reshape(spec.shape)


def make_layer(engine: FakeEngine, version: str = "10.3.0", *, for_rtx: bool = False) -> DeviceLayer:
    """The layer that a TensorRTRunner stands on; only a whole file of FAKE_ENGINE loads."""

    def load(data: bytes, _: bool) -> LoadedEngine:
        if data not in (FAKE_ENGINE, FAKE_RTX_ENGINE):
            raise EngineError("TensorRT 10.3.0 cannot load the engine: the stream ends", fix="build it again")
        return LoadedEngine(engine, lambda: "enqueue was refused", for_rtx)

    return DeviceLayer(Cuda(engine.runtime), load, version, for_rtx)


FAKE_ENGINE = b"ptrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(range(100))
FAKE_RTX_ENGINE = b"vtrt" + bytes(20) + bytes((1, 7, 1, 0)) + bytes(range(100))
