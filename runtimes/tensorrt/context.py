"""One execution context of an engine, with a stream and buffers of its own: what one thread runs on at a time."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from ...core.errors import CudaError, EngineError, RunnerError
from ...core.types import Array, TensorSpec
from .cuda import Cuda
from .load import LoadedEngine, context_bytes

MIB = 1 << 20


class Lane:
    """Buffers on the device and pinned ones on the host for each tensor; a failed making frees what was made.

    With `cuda_graph` the context's launches are captured once and replayed as a graph.
    """

    def __init__(
        self, loaded: LoadedEngine, bindings: tuple[tuple[TensorSpec, ...], ...], cuda: Cuda, cuda_graph: bool
    ) -> None:
        self._inputs, self._outputs = bindings
        self._loaded = loaded
        self._cuda = cuda
        self._device: dict[str, int] = {}
        self._host: dict[str, Array] = {}
        self._addresses: dict[str, int] = {}
        self._graph: Any = None
        with ExitStack() as made:
            self._context = self._make_context()
            made.callback(self._drop_context)
            self._stream = cuda.create_stream()
            made.callback(cuda.destroy_stream, self._stream)
            self._events = []
            for _ in range(2):
                event = cuda.create_event()
                made.callback(cuda.destroy_event, event)
                self._events.append(event)
            for spec in (*self._inputs, *self._outputs):
                self._make_buffers(spec, made)
            made.callback(self._settle)
            if cuda_graph:
                self._capture(made)
            self._resources = made.pop_all()

    def put(self, feeds: Mapping[str, Array]) -> None:
        """Queue the copies of the inputs to the device."""
        for spec in self._inputs:
            self._host[spec.name][...] = feeds[spec.name]
            self._cuda.copy_in(self._device[spec.name], self._addresses[spec.name], size_bytes(spec), self._stream)

    def run(self) -> None:
        """Queue one inference; raises RunnerError when TensorRT does not take it."""
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()

    def run_timed(self) -> float:
        """One inference on the inputs that are there, and its milliseconds on the GPU."""
        start, end = self._events
        self._cuda.record(start, self._stream)
        self.run()
        self._cuda.record(end, self._stream)
        self.wait()
        return self._cuda.elapsed_ms(start, end)

    def take(self) -> dict[str, Array]:
        """The outputs on the host, after everything queued has been done."""
        for spec in self._outputs:
            self._cuda.copy_out(self._addresses[spec.name], self._device[spec.name], size_bytes(spec), self._stream)
        self.wait()
        return {spec.name: self._host[spec.name].copy() for spec in self._outputs}

    def wait(self) -> None:
        self._cuda.synchronize(self._stream)

    def close(self) -> None:
        """Free everything; raises CudaError after having tried all of it."""
        self._settle()
        self._host.clear()  # views of memory that is about to go
        self._resources.close()

    def _make_context(self) -> Any:
        context = self._loaded.engine.create_execution_context()
        if context is None:
            needed, free = context_bytes(self._loaded.engine), self._cuda.free_bytes()
            raise EngineError(
                f"no execution context for the engine: {self._loaded.last_error()} (it needs {needed / MIB:.0f} MiB of "
                f"device memory, {free / MIB:.0f} MiB are free)",
                fix="end what else uses the GPU, or run fewer at a time",
            )
        return context

    def _settle(self) -> None:
        """Let what is queued end before its memory goes; what failed of it has been told, or is no use any more."""
        with suppress(CudaError):
            self.wait()

    def _drop_context(self) -> None:
        self._context = None

    def _make_buffers(self, spec: TensorSpec, made: ExitStack) -> None:
        size = size_bytes(spec)
        device = self._cuda.allocate(size)
        made.callback(self._cuda.free, device)
        host = self._cuda.allocate_pinned(size)
        made.callback(self._cuda.free_pinned, host)
        memory = (ctypes.c_uint8 * size).from_address(host)
        self._device[spec.name], self._addresses[spec.name] = device, host
        self._host[spec.name] = np.ctypeslib.as_array(memory).view(spec.dtype).reshape(spec.shape)
        if not self._context.set_tensor_address(spec.name, device):
            raise EngineError(f"TensorRT does not take an address for {spec.name}", fix="build the engine again")

    def _capture(self, made: ExitStack) -> None:
        """TensorRT does what it left for the first run outside of the graph, so one run comes before."""
        self._enqueue()
        self.wait()
        self._graph = self._cuda.capture(self._stream, self._enqueue)
        made.callback(self._cuda.destroy_graph, self._graph)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise RunnerError(
                f"TensorRT did not run the engine: {self._loaded.last_error()}",
                fix="run it alone on the GPU, and build it again if that does not help",
            )


def size_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
