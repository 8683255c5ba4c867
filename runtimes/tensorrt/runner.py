"""Runs a TensorRT engine on the GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ...core.errors import CudaError, RunnerError
from ...core.types import Array
from .admission import Installation, require_loadable
from .context import Lane
from .engine_file import EngineRecord
from .load import DeviceLayer, describe_bindings, installed_layer


class TensorRTRunner:
    """An engine in device memory; several threads may call it, each of which gets an execution context of its own.

    `record` is what the manifest keeps of the engine. Raises EngineError for an engine of another TensorRT or GPU, of
    which nothing is loaded then, and for a file that does not load. The input's bytes are copied in from pinned memory.
    """

    def __init__(
        self,
        path: Path,
        record: EngineRecord | None = None,
        *,
        cuda_graph: bool = False,
        layer: DeviceLayer | None = None,
    ) -> None:
        layer = layer or installed_layer()
        device = layer.cuda.device()
        require_loadable(path, record, Installation(layer.version, layer.for_rtx, device.compute_capability))
        self._cuda = layer.cuda
        self._cuda_graph = cuda_graph
        self._loaded = layer.load(path.read_bytes(), bool(record and record.version_compatible))
        self.inputs, self.outputs = describe_bindings(self._loaded.engine)
        self.name = f"TensorRT{' for RTX' if layer.for_rtx else ''} {layer.version} ({device.name})"
        self._lock = threading.Lock()
        self._closed = False
        self._idle = [self._make_lane()]  # now, so that too little memory is found out now

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch, copies in and out included; shapes and types as `inputs` and `outputs` say."""
        self._require_fitting(feeds)
        with self._borrow_lane() as lane:
            lane.put(feeds)
            lane.run()
            return lane.take()

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], float | None]]:
        """A function that runs one batch on inputs already on the device, and returns its milliseconds there."""
        self._require_fitting(feeds)
        with self._borrow_lane() as lane:
            lane.put(feeds)
            lane.wait()
            yield lane.run_timed

    def close(self) -> None:
        """Free the device's memory; what runs in another thread ends first, and frees its own."""
        with self._lock:
            self._closed = True
            lanes, self._idle = self._idle, []
        for lane in lanes:
            lane.close()

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_lane(self) -> Lane:
        with self._lock:  # contexts are made one at a time, and a capture must not meet another thread's allocation
            return Lane(self._loaded, (self.inputs, self.outputs), self._cuda, self._cuda_graph)

    @contextmanager
    def _borrow_lane(self) -> Iterator[Lane]:
        """An idle lane or a new one; one on which something failed is not used again."""
        with self._lock:
            if self._closed:
                raise RunnerError("the runner is closed", fix="open the engine again")
            lane = self._idle.pop() if self._idle else None
        lane = lane or self._make_lane()
        reusable = False
        try:
            yield lane
            with self._lock:
                reusable = not self._closed
                if reusable:
                    self._idle.append(lane)
        finally:
            if not reusable:
                with suppress(CudaError):  # after a failure on the device, freeing fails too; the first one is told
                    lane.close()

    def _require_fitting(self, feeds: Mapping[str, Array]) -> None:
        for spec in self.inputs:
            value = feeds.get(spec.name)
            if value is None or value.shape != spec.shape or value.dtype != spec.dtype:
                got = "nothing" if value is None else f"{value.dtype} {value.shape}"
                raise RunnerError(
                    f"{spec.name}: {got} given, the engine takes {spec.dtype} {spec.shape}",
                    fix="give clips of the network's own type and shape",
                )
