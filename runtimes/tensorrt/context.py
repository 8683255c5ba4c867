"""One execution context of an engine, with a stream and buffers of its own: one thread runs on it at a time."""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from ...core.errors import CudaError, EngineError, RunnerError
from ...core.runner import DeviceTime
from ...core.types import Array, TensorSpec
from .cuda import Cuda
from .load import LayerTimes, LoadedEngine, context_bytes, graph_configuration

MIB = 1 << 20
COPIES_TIMED = 5
IN_FLIGHT = 2  # batches that are queued at a time when they are timed


class ExecutionContext:
    """Buffers on the device and pinned ones on the host for each tensor; a failed making frees what was made.

    With `cuda_graph` the launches are captured once and replayed as a graph. Where that fails, `capture_failure` says
    why, and the launches are made one by one.
    """

    def __init__(
        self, loaded: LoadedEngine, specs: tuple[tuple[TensorSpec, ...], ...], cuda: Cuda, cuda_graph: bool
    ) -> None:
        self._inputs, self._outputs = specs
        self._loaded = loaded
        self._cuda = cuda
        self._device: dict[str, int] = {}
        self._host: dict[str, Array] = {}
        self._addresses: dict[str, int] = {}
        self._graph: Any = None
        self._batch = self._largest = self._inputs[0].shape[0]
        self.capture_failure: str | None = None
        with ExitStack() as made:
            self._context = self._make_context(cuda_graph)
            made.callback(self._drop_context)
            self._set_batch(self._largest)
            self._stream = cuda.create_stream()
            made.callback(cuda.destroy_stream, self._stream)
            self._events = [self._make_event(made) for _ in range(2 * IN_FLIGHT)]
            for spec in (*self._inputs, *self._outputs):
                self._make_buffers(spec, made)
            made.callback(self._settle)
            if cuda_graph and not loaded.for_rtx:
                self._capture(made)
            self._resources = made.pop_all()

    @property
    def has_graph(self) -> bool:
        """True when batches can be launched as one graph."""
        return self._graph is not None

    def put(self, feeds: Mapping[str, Array]) -> None:
        """Queue the copies of the inputs to the device."""
        self._fill(feeds)
        self._copy_in()

    def run(self, by_graph: bool) -> None:
        """Queue one inference; raises RunnerError when TensorRT does not take it. A graph is of the largest batch."""
        if by_graph and self._batch == self._largest:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()

    def take(self) -> dict[str, Array]:
        """The outputs on the host, after everything queued has been done."""
        self._copy_out()
        self.wait()
        return {spec.name: self._host[spec.name][: self._batch].copy() for spec in self._outputs}

    @contextmanager
    def timed(self, feeds: Mapping[str, Array], by_graph: bool) -> Iterator[Callable[[], DeviceTime]]:
        """Put `feeds` on the device; the function given runs a batch there, and returns the time of the one before it.

        Two batches are queued at a time, so that a batch's first event is passed when the batch before it ends: its
        time is then the GPU's alone, unless the host cannot queue as fast as the GPU computes.
        """
        self._fill(feeds)
        copy_in_ms = self._time_copies(self._copy_in)
        self.run(by_graph)
        copy_out_ms = self._time_copies(self._copy_out)
        self.run(by_graph)  # what the first timed batch is queued behind
        pairs = [self._events[:2], self._events[2:]]
        queued_ms = [self._queue_timed(pairs[0], by_graph)]

        def run() -> DeviceTime:
            pairs.reverse()
            queued_ms.append(self._queue_timed(pairs[0], by_graph))
            start, end = pairs[1]
            self._cuda.wait_for(end)
            return DeviceTime(self._cuda.elapsed_ms(start, end), queued_ms.pop(0), copy_in_ms, copy_out_ms)

        yield run
        self.wait()

    def profile(self, feeds: Mapping[str, Array], runs: int, warm_up_seconds: float) -> tuple[tuple[str, float], ...]:
        """The layers in the order of execution with their median milliseconds over `runs` batches.

        From then on every layer is waited for: a context that was profiled is of no other use.
        """
        self._fill(feeds)
        self._copy_in()
        end = time.monotonic() + warm_up_seconds
        self._run_alone()
        while time.monotonic() < end:
            self._run_alone()
        self._context.profiler = profiler = LayerTimes()
        for _ in range(runs):
            profiler.start_run()
            self._run_alone()
        return profiler.medians()

    def wait(self) -> None:
        self._cuda.synchronize(self._stream)

    def close(self) -> None:
        """Free everything; raises CudaError after having tried all of it."""
        self._settle()
        self._host.clear()  # views of memory that is about to go
        self._resources.close()

    def _make_context(self, cuda_graph: bool) -> Any:
        engine = self._loaded.engine
        configuration = graph_configuration(engine) if cuda_graph and self._loaded.for_rtx else None
        context = engine.create_execution_context(*(() if configuration is None else (configuration,)))
        if context is None:
            needed, free = context_bytes(engine), self._cuda.free_bytes()
            raise EngineError(
                f"no execution context for the engine: {self._loaded.take_error()} (it needs {needed / MIB:.0f} MiB of "
                f"device memory, {free / MIB:.0f} MiB are free)",
                fix="end what else uses the GPU, or run fewer at a time",
            )
        return context

    def _settle(self) -> None:
        """Let what is queued end before its memory goes; what failed of it has been told, or is no use any more."""
        with suppress(CudaError):
            self.wait()

    def _drop_context(self) -> None:
        del self._context, self._loaded

    def _make_event(self, made: ExitStack) -> Any:
        event = self._cuda.create_event()
        made.callback(self._cuda.destroy_event, event)
        return event

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
        """Capture one run as a graph, after one outside of it, in which TensorRT does what it left for the first.

        A run that can be made and not captured is no reason to fail: the launches stay.
        """
        self._run_alone()
        try:
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        except (CudaError, RunnerError) as error:
            self.capture_failure = str(error)
            self._run_alone()  # a device that failed for good says so now
        else:
            made.callback(self._cuda.destroy_graph, self._graph)

    def _fill(self, feeds: Mapping[str, Array]) -> None:
        batch = len(feeds[self._inputs[0].name])
        if batch != self._batch:
            self._set_batch(batch)
        for spec in self._inputs:
            self._host[spec.name][:batch] = feeds[spec.name]

    def _set_batch(self, batch: int) -> None:
        """Run batches of this size from now on; what is queued has been done."""
        for spec in self._inputs:
            if spec.least_batch is not None and not self._context.set_input_shape(spec.name, (batch, *spec.shape[1:])):
                raise EngineError(
                    f"TensorRT does not take a batch of {batch} for {spec.name}: {self._loaded.take_error()}",
                    fix="build the engine again",
                )
        self._batch = batch

    def _copy_in(self) -> None:
        for spec in self._inputs:
            size = size_bytes(spec) // self._largest * self._batch
            self._cuda.copy_in(self._device[spec.name], self._addresses[spec.name], size, self._stream)

    def _copy_out(self) -> None:
        for spec in self._outputs:
            size = size_bytes(spec) // self._largest * self._batch
            self._cuda.copy_out(self._addresses[spec.name], self._device[spec.name], size, self._stream)

    def _time_copies(self, copy: Callable[[], None]) -> float:
        """Median milliseconds on the GPU of a few repetitions of `copy`."""
        start, end = self._events[:2]
        times = []
        for _ in range(COPIES_TIMED):
            self._cuda.record(start, self._stream)
            copy()
            self._cuda.record(end, self._stream)
            self.wait()
            times.append(self._cuda.elapsed_ms(start, end))
        return statistics.median(times)

    def _queue_timed(self, events: list[Any], by_graph: bool) -> float:
        """Queue one inference between two events; returns the milliseconds that the host took for queueing it."""
        start, end = events
        self._cuda.record(start, self._stream)
        begun = time.perf_counter()
        self.run(by_graph)
        took = (time.perf_counter() - begun) * 1e3
        self._cuda.record(end, self._stream)
        return took

    def _run_alone(self) -> None:
        self._enqueue()
        self.wait()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise RunnerError(
                f"TensorRT did not run the engine: {self._loaded.take_error()}",
                fix="run it alone on the GPU, and build it again if that does not help",
            )


def size_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor."""
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
