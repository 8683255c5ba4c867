"""The few CUDA calls that running an engine needs, over cuda.bindings.runtime: the one place that touches the device.

Addresses are integers. Every call raises CudaError on failure; nothing here frees by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...core.errors import CudaError, MissingDependencyError

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
OLD_DRIVER = 35  # cudaErrorInsufficientDriver, which is also "no driver"
NO_DEVICE = (OLD_DRIVER, 100)  # and cudaErrorNoDevice
NON_BLOCKING = 1  # cudaStreamNonBlocking: the stream does not wait for the legacy default stream

# cuda-bindings that a driver of each CUDA generation runs: from 12.9 on they hold a CUDA runtime of their own version.
PINS = {"12": 'pip install "cuda-bindings==12.8.*"', "13": 'pip install "cuda-bindings>=13,<14"'}


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """The GPU in use: its name, compute capability ("8.7"), memory in bytes, and the driver's CUDA version.

    `shares_memory` is true on a Jetson, where that memory is the host's too; `pci_bus_id` is its name to nvidia-smi.
    """

    name: str
    compute_capability: str
    memory_bytes: int
    cuda: str
    shares_memory: bool = False
    pci_bus_id: str | None = None

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
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return GpuDevice(
            name=name.rstrip("\0"),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_bytes=int(properties.totalGlobalMem),
            cuda=_spell_version(int(self._call("cudaDriverGetVersion"))),
            shares_memory=bool(properties.integrated),
            pci_bus_id=f"{properties.pciDomainID:08x}:{properties.pciBusID:02x}:{properties.pciDeviceID:02x}.0",
        )

    def start(self) -> None:
        """Make the CUDA context, the first call for which driver and cuda-bindings have to fit each other."""
        self._call("cudaFree", 0)

    def driver_version(self) -> str | None:
        """The CUDA version that the driver supports ("12.6"); None where there is no driver."""
        number = int(self._call("cudaDriverGetVersion"))
        return _spell_version(number) if number else None

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
        """A stream that neither waits for the legacy default stream nor holds it up, also while it is captured."""
        return self._call("cudaStreamCreateWithFlags", NON_BLOCKING)

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

    def wait_for(self, event: Any) -> None:
        """Wait until the GPU has passed `event`; raises CudaError for what failed before it."""
        self._call("cudaEventSynchronize", event)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds on the GPU between two events that have passed."""
        return float(self._call("cudaEventElapsedTime", start, end))

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """Record what `work` queues on `stream` as a graph to launch; it is not executed now.

        Raises what `work` raises. The stream and CUDA's own last error are clean then.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:
            self._abandon_capture(stream)
            raise
        graph = self._end_capture(stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def _end_capture(self, stream: Any) -> Any:
        try:
            return self._call("cudaStreamEndCapture", stream)
        except CudaError:
            self._runtime.cudaGetLastError()
            raise

    def _abandon_capture(self, stream: Any) -> None:
        """End a capture in which something failed: its own error (901, invalidated) is only the consequence."""
        code, *graph = self._runtime.cudaStreamEndCapture(stream)
        if int(code) == 0 and graph:
            self._runtime.cudaGraphDestroy(graph[0])
        self._runtime.cudaGetLastError()

    def launch(self, graph: Any, stream: Any) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            code, *values = getattr(self._runtime, name)(*arguments)
        except RuntimeError as error:  # what cuda-bindings 12.8.0 raises where there is no libcuda
            raise self._error(name, OLD_DRIVER, str(error)) from error
        if int(code) != 0:
            _, described = self._runtime.cudaGetErrorName(code)
            raise self._error(name, int(code), described.decode() if isinstance(described, bytes) else str(described))
        if not values:
            return None
        return values[0] if len(values) == 1 else tuple(values)

    def _error(self, call: str, code: int, name: str) -> CudaError:
        if code == OLD_DRIVER and (driver := self._quiet_version("cudaDriverGetVersion")):
            needed = self._quiet_version("cudaRuntimeGetVersion")
            generation = driver.partition(".")[0]
            return CudaError(
                f"cuda-bindings {_wheel_version()} needs a driver for CUDA {needed or 'of later date'}, the driver "
                f"here is for CUDA {driver} ({name})",
                code,
                fix=f"{PINS.get(generation, PINS['12'])}; elsewhere than on a Jetson a newer driver will do too",
            )
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

    def _quiet_version(self, call: str) -> str | None:
        """A version asked for while another error is told, so that nothing may fail; None where there is none."""
        try:
            code, *values = getattr(self._runtime, call)()
        except RuntimeError:
            return None
        return None if int(code) or not values or not values[0] else _spell_version(int(values[0]))

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
            fix='pip install "dualexport[gpu]", on a Jetson pip install "dualexport[jetson]"',
        ) from error
    return Cuda(runtime)


def find_gpu() -> GpuDevice | None:
    """The GPU in use, None where there is none or it cannot be asked."""
    try:
        return open_cuda().device()
    except (CudaError, MissingDependencyError):
        return None


def _spell_version(number: int) -> str:
    """12060 -> `12.6`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _wheel_version() -> str:
    try:
        return version("cuda-bindings")
    except PackageNotFoundError:
        return "(of an unknown version)"
