"""Loads an engine and says what goes in and out of it: what running needs of TensorRT, besides a context."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import EngineError
from ...core.types import TensorSpec
from .cuda import Cuda, open_cuda
from .library import RecordingLogger, is_for_rtx, library_version, trt


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine in memory; `take_error` tells why TensorRT refused what was asked of it last."""

    engine: Any
    take_error: Callable[[], str]
    for_rtx: bool = False


class LayerTimes(trt.IProfiler):  # type: ignore[misc]  # TensorRT has no type hints
    """Keeps what TensorRT reports of each layer, run by run; what it reports twice in a run is added up."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[dict[str, float]] = []

    def start_run(self) -> None:
        """Count what is reported from now on to another run."""
        self._runs.append({})

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Take a layer's time, as TensorRT gives it in the order of execution."""
        run = self._runs[-1]
        run[layer_name] = run.get(layer_name, 0.0) + ms

    def medians(self) -> tuple[tuple[str, float], ...]:
        """The layers with their median milliseconds, in the order of execution."""
        names = dict.fromkeys(name for run in self._runs for name in run)
        return tuple((name, statistics.median(run.get(name, 0.0) for run in self._runs)) for name in names)


@dataclass(frozen=True, slots=True)
class DeviceLayer:
    """The layer below a TensorRTRunner: CUDA, and TensorRT's loading of an engine.

    `load` takes the file's bytes and whether code in them may run, which version-compatible engines need, and raises
    EngineError for bytes that are no engine.
    """

    cuda: Cuda
    load: Callable[[bytes, bool], LoadedEngine]
    version: str
    for_rtx: bool


def installed_layer() -> DeviceLayer:
    """CUDA and TensorRT of this machine; raises MissingDependencyError for what is not installed."""
    return DeviceLayer(open_cuda(), load_engine, library_version(), is_for_rtx())


def load_engine(data: bytes, runs_code: bool) -> LoadedEngine:
    """Deserialize an engine; raises EngineError, with TensorRT's reason, when that fails."""
    logger = RecordingLogger(verbose=False)
    runtime = trt.Runtime(logger)
    if runs_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot load the engine: {logger.take_error()}",
            fix="build it again with `dualexport trt`; a copy may be cut off",
        )
    return LoadedEngine(engine, logger.take_error, is_for_rtx())


def graph_configuration(engine: Any) -> Any | None:
    """The runtime configuration by which TensorRT for RTX captures graphs itself; None where it cannot."""
    strategies = getattr(trt, "CudaGraphStrategy", None)
    if strategies is None or not hasattr(engine, "create_runtime_config"):
        return None
    configuration = engine.create_runtime_config()
    if not hasattr(configuration, "cuda_graph_strategy"):
        return None
    configuration.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
    return configuration


def io_specs(engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an engine; raises EngineError for shapes of which more than the batch is not fixed."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    batches: tuple[int, int] | None = None  # of the inputs, which come first
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        least = None
        if shape[:1] == (-1,):
            if is_input:
                smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
                batches = (smallest[0], largest[0])
            if batches is not None:
                least, shape = batches[0], (batches[1], *shape[1:])
        if any(extent < 0 for extent in shape):
            raise EngineError(f"{name} has no fixed shape: {shape}", fix="build the engine from a file of fixed shapes")
        spec = TensorSpec(name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name, shape, least)
        (inputs if is_input else outputs).append(spec)
    return tuple(inputs), tuple(outputs)


def context_bytes(engine: Any) -> int:
    """Device memory of one execution context besides its inputs and outputs; TensorRT 10.0 names it otherwise."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)
