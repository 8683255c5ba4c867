"""Compiles an ONNX file with the TensorRT that is installed, and keeps what it says about the result.

Serves TensorRT 10 and 11 and TensorRT for RTX: the network is always strongly typed, so that precision is what the
ONNX file says (tensors in FP16, Q/DQ for INT8) and the builder adds none of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..contracts import MissingDependencyError, Progress, no_progress
from .plan import PlanError
from .plan_log import Compilation

try:
    import tensorrt as trt
except ImportError:
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        raise MissingDependencyError(
            "TensorRT is not installed (no module tensorrt or tensorrt_rtx)",
            fix="pip install tensorrt, or on a machine without a GPU run scripts/install-cpu-tensorrt",
        ) from error

_LINT_FIX = "run `dualexport lint` on the file, and export it again if it was changed since"


class _RecordingLogger(trt.ILogger):  # type: ignore[misc]  # TensorRT has no type hints
    """Keeps every message, and the errors among them once more; prints none."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        self.lines.append(message)
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)


def compile_onnx(path: Path, *, progress: Progress = no_progress) -> Compilation:
    """Compiles the ONNX file at `path` with detailed profiling verbosity.

    Raises PlanError, naming the ONNX node where the parser knows it, when TensorRT refuses the network.
    """
    logger = _RecordingLogger()
    progress(f"parsing {path.name}")
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _parser_error(path, parser)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    progress(f"compiling {path.name} with {_compiler()}")
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        reason = _reason(logger.errors[-1]) if logger.errors else "it gives no reason"
        raise PlanError(f"{path.name}: {_compiler()} cannot compile it: {reason}", fix=_LINT_FIX)
    inspection = _inspect(serialized, logger)
    return Compilation("\n".join(logger.lines), inspection, _compiler())


def _network_flags() -> int:
    """TensorRT 10 has to be told that the network is strongly typed; TensorRT 11 and RTX know nothing else."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _compiler() -> str:
    return f"{'TensorRT for RTX' if trt.__name__ == 'tensorrt_rtx' else 'TensorRT'} {trt.__version__}"


def _parser_error(path: Path, parser: Any) -> PlanError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return PlanError(f"{path.name}: {_compiler()} cannot parse it", fix=_LINT_FIX)
    first = errors[0]
    node = f"node {first.node_name()} ({first.node_operator()})" if first.node_name() else "the file"
    return PlanError(f"{path.name}: {_compiler()} refuses {node}: {_reason(first.desc())}", fix=_LINT_FIX)


def _reason(message: str) -> str:
    """The sentence of TensorRT's message that says what is wrong, without its source locations and echoes."""
    lines = [line.strip() for line in message.splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Invalid Node", "[", "ModelImporter", "In function"))
    ]
    text = telling[0] if telling else " ".join(lines)
    inner = re.search(r"API Usage Error \((.*?)\.? In \w+ at ", text)
    return inner[1] if inner else text.removeprefix("Assertion failed: ")


def _inspect(serialized: Any, logger: _RecordingLogger) -> str | None:
    """The engine inspector's JSON, or None where there is no GPU to deserialize the engine on."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(serialized)
    if engine is None:
        return None
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
