"""The few CUDA calls that running an engine needs, over cuda.bindings.runtime: the one place that touches the device.

Addresses are integers. Every call raises CudaError on failure; nothing here frees by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...core.errors import CudaError, MissingDependencyError

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NO_DEVICE = (35, 100)  # cudaErrorInsufficientDriver, which is also "no driver", and cudaErrorNoDevice


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """The GPU in use: its name, compute capability ("8.7"), memory in bytes, and the driver's CUDA version."""

    name: str
    compute_capability: str
    memory_bytes: int
    cuda: str

    @property
    def short_name(self) -> str:
        """`sm87`, as it stands in file names."""
        return f"sm{self.compute_capability.replace('.', '')}"


class Cuda:
    """CUDA calls over `runtime`, which is the module cuda.bindings.runtime or what answers like it."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def device(self) -> GpuDevice:
        """The first GPU (CUDA_VISIBLE_DEVICES chooses which that is); raises CudaError where there is none."""
        if self._call("cudaGetDeviceCount") < 1:
            raise self._error("cudaGetDeviceCount", NO_DEVICE[1], "cudaErrorNoDevice")
        properties = self._call("cudaGetDeviceProperties", 0)
        version = int(self._call("cudaDriverGetVersion"))
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return GpuDevice(
            name=name.rstrip("\0"),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_bytes=int(properties.totalGlobalMem),
            cuda=f"{version // 1000}.{version % 1000 // 10}",
        )

    def free_bytes(self) -> int:
        """Device memory that is free now."""
        free, _ = self._call("cudaMemGetInfo")
        return int(free)

    def allocate(self, size_bytes: int) -> int:
        return int(self._call("cudaMalloc", size_bytes))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Page-locked host memory, which copies run from and to without the CPU."""
        return int(self._call("cudaHostAlloc", size_bytes, 0))

    def free_pinned(self, address: int) -> None:
        self._call("cudaFreeHost", address)

    def copy_in(self, device: int, host: int, size_bytes: int, stream: Any) -> None:
        """Queue a copy to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host, size_bytes, kind, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: Any) -> None:
        """Queue a copy to the host."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host, device, size_bytes, kind, stream)

    def create_stream(self) -> Any:
        return self._call("cudaStreamCreate")

    def destroy_stream(self, stream: Any) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait for what is queued; raises CudaError for what failed of it."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> Any:
        return self._call("cudaEventCreate")

    def destroy_event(self, event: Any) -> None:
        self._call("cudaEventDestroy", event)

    def record(self, event: Any, stream: Any) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds on the GPU between two events that have passed."""
        return float(self._call("cudaEventElapsedTime", start, end))

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """What `work` queues on `stream`, as a graph to launch; it is not executed now."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        graph: Any = None
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            try:
                work()
            finally:  # also a failed capture must be ended, or the stream stays unusable
                graph = self._call("cudaStreamEndCapture", stream)
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            if graph is not None:
                self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: Any) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self._runtime, name)(*arguments)
        if int(code) != 0:
            _, described = self._runtime.cudaGetErrorName(code)
            raise self._error(name, int(code), described.decode() if isinstance(described, bytes) else str(described))
        if not values:
            return None
        return values[0] if len(values) == 1 else tuple(values)

    def _error(self, call: str, code: int, name: str) -> CudaError:
        if code in NO_DEVICE:
            return CudaError(
                f"no NVIDIA GPU can be used here ({name})",
                code,
                fix="check the driver with nvidia-smi (a container needs --gpus all or --runtime nvidia), or work with "
                "--runtime onnx",
            )
        if code == OUT_OF_MEMORY:
            return CudaError(
                f"{call}: out of device memory, {self._free_mb()} MB are free",
                code,
                fix="end what else uses the GPU, or take a smaller network or batch",
            )
        return CudaError(f"{call} failed: {name}", code, fix="see the kernel log (dmesg) and nvidia-smi, and try again")

    def _free_mb(self) -> str:
        code, *values = self._runtime.cudaMemGetInfo()
        return "?" if int(code) else f"{int(values[0]) / 1e6:.0f}"


def open_cuda() -> Cuda:
    """CUDA on this machine. The library is imported here, so that a test can put another one in its place."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingDependencyError(
            "cuda-bindings is not installed, which copies data to the GPU and back",
            fix='pip install "dualexport[gpu]" (with CUDA 12, as in JetPack 6: pip install "cuda-bindings<13")',
        ) from error
    return Cuda(runtime)
