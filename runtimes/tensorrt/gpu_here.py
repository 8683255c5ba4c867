"""Builds engines on the GPU of this machine only to time them: layer by layer, or two as a whole against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...core.choices import Precision
from ...core.errors import DualExportError, EngineError
from ...core.reporter import Progress, no_progress
from ..benchmark import benchmark, make_feeds
from ..latency import Copies, Subject, Timing
from ..plans.parse import Compilation
from .build import name_target
from .compile import compile_engine
from .configure import configure, keep_timings, limit_workspace, require_fp8
from .cuda import GpuDevice
from .engine_file import EngineOptions, name_place
from .library import RecordingLogger
from .load import DeviceLayer, installed_layer
from .messages import explain_failure
from .runner import TensorRTRunner

PROFILED_RUNS = 30
SHORT = Timing(seconds=5.0, rounds=10, warm_up_seconds=5.0)  # of two engines in turns


@dataclass(frozen=True, slots=True)
class GpuHere:
    """The GPU of this machine, and the folder that keeps the timings of kernels for it, which `trt` uses as well."""

    folder: Path
    layer: DeviceLayer = field(default_factory=installed_layer)
    timing: Timing = SHORT

    @property
    def device(self) -> GpuDevice:
        """The GPU; raises CudaError where there is none."""
        return self.layer.cuda.device()

    def require(self, precision: Precision) -> None:
        """Raise CudaError where there is no GPU, EngineError where it does not compute in `precision`."""
        device = self.device
        if precision is Precision.FP8:
            require_fp8(device)

    def build(self, model: Path, engine: Path, progress: Progress = no_progress) -> Compilation:
        """Compile the ONNX file at `model` to the file `engine`; returns what TensorRT says of it."""
        options, logger = EngineOptions(), RecordingLogger()
        place = name_place(name_target(self.device, options), self.layer.version)
        cache = self.folder / f"timing.{place}.cache"
        options = limit_workspace(options, self.device, model, lambda _: None)
        try:
            built = compile_engine(
                model, logger, lambda config: configure(config, options, cache, None), progress=progress
            )
        except DualExportError as error:
            raise explain_failure(error, logger, model, self.device) from error
        keep_timings(built.config, cache)
        engine.write_bytes(memoryview(built.serialized))
        return built.compilation

    def time_layers(self, engine: Path) -> tuple[tuple[str, float], ...]:
        """The layers of an engine in the order of execution, with their median milliseconds on random input."""
        with TensorRTRunner(engine, layer=self.layer) as runner:
            feeds = make_feeds(runner, self.timing.seed)
            return runner.profile(feeds, runs=PROFILED_RUNS, warm_up_seconds=self.timing.gpu_warm_up_seconds)

    def compare(self, first: Path, second: Path, progress: Progress = no_progress) -> tuple[float, float]:
        """Milliseconds a batch of two engines on the GPU, in alternating rounds, by CUDA graphs where both can."""
        subjects = [
            Subject(path.name, None, partial(TensorRTRunner, path, cuda_graph=True, layer=self.layer))
            for path in (first, second)
        ]
        ways: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for one in benchmark(subjects, self.timing, progress).results:
            if one.copies is Copies.EXCLUDED:
                ways[one.cuda_graph][one.artifact] = one.p50_ms
        times = next((found for found in (ways[True], ways[False]) if len(found) == len(subjects)), None)
        if times is None:
            raise EngineError("the GPU counted no time of the engines", fix="name a device, to go by estimates")
        return times[first.name], times[second.name]
