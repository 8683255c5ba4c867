"""Runs a TensorRT engine on the GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ...core.errors import CudaError, EngineError, RunnerError
from ...core.reporter import Notify, no_notes
from ...core.runner import DeviceTime
from ...core.types import Array
from .admission import Installation, explain_unloadable, require_loadable
from .context import ExecutionContext
from .engine_file import ENGINE, EngineRecord
from .load import DeviceLayer, LoadedEngine, graph_configuration, installed_layer, io_specs


class TensorRTRunner:
    """An engine in device memory; several threads may call it, each of which gets an execution context of its own.

    `record` is what the manifest keeps of the engine. Raises EngineError for an engine of another TensorRT or GPU, of
    which nothing is loaded then, and for a file that does not load. The input's bytes are copied in from pinned memory.
    With `cuda_graph` the launches are replayed as a graph; `notify` is told where they cannot be, and why.
    """

    def __init__(
        self,
        path: Path,
        record: EngineRecord | None = None,
        *,
        cuda_graph: bool = False,
        layer: DeviceLayer | None = None,
        notify: Notify = no_notes,
    ) -> None:
        layer = layer or installed_layer()
        device = layer.cuda.device()
        here = Installation(layer.version, layer.for_rtx, device.compute_capability)
        require_loadable(path, record, here)
        self._cuda = layer.cuda
        self._cuda_graph = cuda_graph
        try:
            loaded = layer.load(ENGINE.read_bytes(path), bool(record and record.version_compatible))
        except EngineError as error:
            raise explain_unloadable(error, here) from error
        self._loaded: LoadedEngine | None = loaded
        self.inputs, self.outputs = io_specs(loaded.engine)
        self.name = f"TensorRT{' for RTX' if layer.for_rtx else ''} {layer.version} ({device.name})"
        self._lock = threading.Lock()
        self._closed = False
        first = self._make_context()  # now, so that too little memory is found out now
        self._idle = [first]
        self.has_graph = first.has_graph
        if cuda_graph and not first.has_graph:
            self._cuda_graph = layer.for_rtx
            self._tell_missing_graph(loaded, first, notify)

    def infer(self, feeds: Mapping[str, Array], *, by_graph: bool | None = None) -> dict[str, Array]:
        """Run one batch, copies in and out included; shapes and types as `inputs` and `outputs` say.

        `by_graph` chooses between a graph and single launches where there is a graph; None takes the graph.
        """
        self._require_fitting(feeds)
        with self._borrow_context() as context:
            context.put(feeds)
            context.run(self._uses_graph(by_graph))
            return context.take()

    @contextmanager
    def prepared(
        self, feeds: Mapping[str, Array], *, by_graph: bool | None = None
    ) -> Iterator[Callable[[], DeviceTime]]:
        """A function that runs one batch on inputs already on the device, and returns the time of the batch before.

        `by_graph` as for `infer`.
        """
        self._require_fitting(feeds)
        with self._borrow_context() as context, context.timed(feeds, self._uses_graph(by_graph)) as run:
            yield run

    def profile(
        self, feeds: Mapping[str, Array], *, runs: int, warm_up_seconds: float
    ) -> tuple[tuple[str, float], ...]:
        """The layers in the order of execution with their median milliseconds over `runs` batches.

        They are launched one by one, and each is waited for.
        """
        self._require_fitting(feeds)
        with closing(self._make_context()) as context:  # of its own, since it is of no other use behind this
            return context.profile(feeds, runs, warm_up_seconds)

    def close(self) -> None:
        """Free the device's memory; what runs in another thread ends first, and frees its own.

        Raises CudaError after everything has been tried.
        """
        with self._lock:
            self._closed = True
            contexts, self._idle = self._idle, []
            self._loaded = None  # the engine's weights go with the last context
        with ExitStack() as closing:
            for context in contexts:
                closing.callback(context.close)

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _uses_graph(self, asked: bool | None) -> bool:
        return self.has_graph and asked is not False

    def _make_context(self) -> ExecutionContext:
        with self._lock:  # contexts are made one at a time, and a capture must not meet another thread's allocation
            if self._loaded is None:
                raise _closed()
            return ExecutionContext(self._loaded, (self.inputs, self.outputs), self._cuda, self._cuda_graph)

    @contextmanager
    def _borrow_context(self) -> Iterator[ExecutionContext]:
        """An idle context or a new one; one on which something failed is not used again."""
        with self._lock:
            if self._closed:
                raise _closed()
            context = self._idle.pop() if self._idle else None
        context = context or self._make_context()
        reusable = False
        try:
            yield context
            with self._lock:
                reusable = not self._closed
                if reusable:
                    self._idle.append(context)
        finally:
            if not reusable:
                with suppress(CudaError):  # after a failure on the device, freeing fails too; the first one is told
                    context.close()

    def _tell_missing_graph(self, loaded: LoadedEngine, first: ExecutionContext, notify: Notify) -> None:
        """Say why there is no graph of our own capture."""
        if first.capture_failure is not None:
            notify(f"{self.name} runs without a CUDA graph: it could not be captured ({first.capture_failure})")
        elif graph_configuration(loaded.engine) is None:
            notify(f"{self.name} runs without a CUDA graph: it takes the module tensorrt_rtx 1.2 or newer")

    def _require_fitting(self, feeds: Mapping[str, Array]) -> None:
        for spec in self.inputs:
            value = feeds.get(spec.name)
            if value is None or not spec.fits(value):
                got = "nothing" if value is None else f"{value.dtype} {value.shape}"
                smaller = "" if spec.least_batch is None else f", or batches down to {spec.least_batch}"
                raise RunnerError(
                    f"{spec.name}: {got} given, the engine takes {spec.dtype} {spec.shape}{smaller}",
                    fix="give clips of the network's own type and shape",
                )


def _closed() -> RunnerError:
    return RunnerError("the runner is closed", fix="open the engine again")
