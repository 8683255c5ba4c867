"""Compiles an ONNX file with the TensorRT that is installed, and keeps what it says about the result."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import PlanError
from ...core.reporter import Progress, no_progress
from ..plans.parse import Compilation
from .library import LINT_FIX, ParsedNetwork, RecordingLogger, compiler_name, parse_network, trt

PERCENT = 100
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True, slots=True)
class CompiledEngine:
    """A serialized engine, what was said while it was compiled, and the configuration it was compiled with."""

    serialized: Any
    compilation: Compilation
    warnings: tuple[str, ...]
    config: Any


def compile_onnx(path: Path, *, progress: Progress = no_progress) -> Compilation:
    """Compiles the ONNX file at `path` with detailed profiling verbosity, for what TensorRT says of it.

    Raises PlanError, naming the ONNX node where the parser knows it, when TensorRT refuses the network.
    """
    return compile_engine(path, RecordingLogger(), progress=progress).compilation


def compile_engine(
    path: Path,
    logger: RecordingLogger,
    configure: Callable[[Any], None] | None = None,
    *,
    profile: tuple[int, int, int] | None = None,
    progress: Progress = no_progress,
) -> CompiledEngine:
    """Compiles the ONNX file at `path`; `configure` sets what the builder's configuration is to have besides.

    A file of a range of batches needs a `profile`: the smallest, the one to be fastest with, and the largest.

    The engine keeps its layers' descriptions, which prove what it computes in. Raises PlanError when TensorRT refuses
    or does not compile the network; what it says last is in `logger`.
    """
    progress(f"parsing {path.name}")
    with _hold_interrupts() as interrupted:
        parsed = parse_network(path, logger)
        config = parsed.builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        task = f"compiling {path.name} with {compiler_name()}"
        monitor = _BuildProgress(task, progress, interrupted)  # has to outlive the build
        config.progress_monitor = monitor
        if configure is not None:
            configure(config)
        if profile is not None:
            _add_profile(parsed, config, profile)
        serialized = parsed.builder.build_serialized_network(parsed.network, config)
    if serialized is None:
        raise PlanError(f"{path.name}: {compiler_name()} cannot compile it: {logger.take_error()}", fix=LINT_FIX)
    del parsed  # the network's weights go before the engine's are loaded for the inspection
    warnings = tuple(logger.warnings)  # before the inspection: that it fails without a GPU is no finding
    inspection = _inspect(serialized, logger)
    compilation = Compilation("\n".join(logger.lines), inspection, compiler_name())
    return CompiledEngine(serialized, compilation, warnings, config)


def _add_profile(parsed: ParsedNetwork, config: Any, batches: tuple[int, int, int]) -> None:
    profile = parsed.builder.create_optimization_profile()
    for index in range(parsed.network.num_inputs):
        entry = parsed.network.get_input(index)
        profile.set_shape(entry.name, *((batch, *tuple(entry.shape)[1:]) for batch in batches))
    config.add_optimization_profile(profile)


def _inspect(serialized: Any, logger: RecordingLogger) -> str | None:
    """The engine inspector's JSON, or None where there is no GPU to deserialize the engine on."""
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # of an engine made here a moment ago; a version-compatible one holds some
    engine = runtime.deserialize_cuda_engine(serialized)
    if engine is None:
        return None
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


@contextmanager
def _hold_interrupts() -> Iterator[threading.Event]:
    """Keep Ctrl-C and SIGTERM until the block is over, and tell that one came: TensorRT's callbacks would lose it."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where Python handles no signals
        yield interrupted
        return
    came: list[int] = []

    def hold(number: int, _: object) -> None:
        came.append(number)
        interrupted.set()

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in (one for one, handler in before.items() if callable(handler)):
        signal.signal(number, hold)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


class _BuildProgress(trt.IProgressMonitor):  # type: ignore[misc]  # TensorRT has no type hints
    """Turns TensorRT's nested phases into one percentage; TensorRT calls it from several threads.

    An interrupt ends the build at the next step.
    """

    def __init__(self, task: str, progress: Progress, interrupted: threading.Event) -> None:
        super().__init__()
        self._interrupted = interrupted
        self._task = task
        self._progress = progress
        self._lock = threading.Lock()
        self._phases: dict[str, list[int]] = {}  # name -> steps done, steps; the outermost first
        self._shown = -1

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
        self._report(lambda: self._phases.__setitem__(phase_name, [0, max(1, num_steps)]))

    def step_complete(self, phase_name: str, step: int) -> bool:
        self._report(lambda: self._advance(phase_name, step + 1))
        return not self._interrupted.is_set()

    def phase_finish(self, phase_name: str) -> None:
        self._report(lambda: self._phases.pop(phase_name, None))

    def _advance(self, phase: str, done: int) -> None:
        if phase in self._phases:
            self._phases[phase][0] = done

    def _report(self, change: Callable[[], object]) -> None:
        with self._lock:
            change()
            percent = int(PERCENT * self._fraction())
            if percent > self._shown:
                self._shown = percent
                self._progress(self._task, percent, PERCENT)

    def _fraction(self) -> float:
        """A phase's own steps, and of the step that it is in, the part that the phase inside it has done."""
        fraction = 0.0
        for done, steps in reversed(self._phases.values()):
            fraction = min(1.0, (done + fraction) / steps)
        return fraction
