"""The TensorRT that is installed: which one it is, what it logs, and how an ONNX file is read into it.

Serves TensorRT 10 and 11 and TensorRT for RTX: the network is always strongly typed, so that precision is what the
ONNX file says (tensors in FP16, Q/DQ for INT8) and the builder adds none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import EngineError, MissingDependencyError, PlanError

try:
    import tensorrt as trt  # the other modules take it from here
except ImportError:
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        raise MissingDependencyError(
            "TensorRT is not installed (no module tensorrt or tensorrt_rtx)",
            fix="pip install tensorrt, on a Jetson apt-get install python3-libnvinfer, "
            "or on a machine without a GPU run scripts/install-cpu-tensorrt",
        ) from error

__all__ = [
    "LINT_FIX",
    "ParsedNetwork",
    "RecordingLogger",
    "describe_bindings",
    "is_for_rtx",
    "library_name",
    "library_version",
    "make_builder",
    "needs_gpu",
    "parse_network",
    "require_supported_version",
    "shorten_message",
    "trt",
    "version_numbers",
]

OLDEST = (10, 0)  # the first that builds strongly typed networks from what the ONNX file says
LINT_FIX = "run `dualexport lint` on the file, and export it again if it was changed since"
_SHARED_LIBRARY = "libtensorrt_rtx.so."


class RecordingLogger(trt.ILogger):  # type: ignore[misc]  # TensorRT has no type hints
    """Keeps every message, and the warnings and errors among them once more; `echo` is told each as it comes."""

    def __init__(self, echo: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._echo = echo

    def log(self, severity: Any, message: str) -> None:
        self.lines.append(message)
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)
        elif severity == trt.ILogger.Severity.WARNING:
            self.warnings.append(message)
        if self._echo is not None:
            self._echo(message)

    def last_error(self) -> str:
        """Why TensorRT gave up, in one sentence."""
        return shorten_message(self.errors[-1]) if self.errors else "it gives no reason"


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """An ONNX file in TensorRT. The parser holds the weights, so it lives as long as the network."""

    builder: Any
    network: Any
    parser: Any


def is_for_rtx() -> bool:
    """Whether this is TensorRT for RTX, which builds portable engines and needs no GPU for that."""
    return trt.__name__ == "tensorrt_rtx" or _assembled_library() is not None


def library_name() -> str:
    return "TensorRT for RTX" if is_for_rtx() else "TensorRT"


def library_version() -> str:
    """The version of the library that compiles and runs engines; the bindings over it may have another one."""
    assembled = _assembled_library()
    return assembled.name.removeprefix(_SHARED_LIBRARY) if assembled else str(trt.__version__)


def describe_bindings() -> str:
    """As `plan` names the compiler: `TensorRT 10.3.0`."""
    return f"{'TensorRT for RTX' if trt.__name__ == 'tensorrt_rtx' else 'TensorRT'} {trt.__version__}"


def require_supported_version(version: str) -> None:
    """Raise EngineError for a TensorRT before 10.0; TensorRT for RTX has counted anew from 1.0."""
    if not is_for_rtx() and version_numbers(version) < OLDEST:
        raise EngineError(
            f"TensorRT {version} is installed, 10.0 or newer is needed",
            fix="on a Jetson Orin install JetPack 6.1 (TensorRT 10.3) or newer, elsewhere pip install -U tensorrt",
        )


def version_numbers(version: str) -> tuple[int, ...]:
    """`10.3.0` -> (10, 3, 0); what is no number ends it."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0]))


def parse_network(path: Path, logger: RecordingLogger) -> ParsedNetwork:
    """The ONNX file at `path`, strongly typed.

    Raises PlanError, naming the ONNX node where the parser knows it, when TensorRT refuses the file, and EngineError
    where TensorRT finds no GPU and cannot do without.
    """
    builder = make_builder(logger)
    network = builder.create_network(_network_flags())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _parser_error(path, parser)
    return ParsedNetwork(builder, network, parser)


def make_builder(logger: RecordingLogger) -> Any:
    """A builder; raises EngineError where TensorRT cannot start, which is where there is no GPU."""
    try:
        return trt.Builder(logger)
    except TypeError as error:  # what pybind11 makes of a factory that returned nothing
        raise needs_gpu(logger.last_error()) from error


def needs_gpu(reason: str) -> EngineError:
    """What to say where TensorRT cannot start, and what can be done there instead."""
    return EngineError(
        f"TensorRT {trt.__version__} builds engines on the NVIDIA GPU that they are for, and finds none here: {reason}",
        fix="pack the ONNX files with `dualexport bundle` and run `dualexport trt BUNDLE` on that device; here, "
        "scripts/install-cpu-tensorrt sets up a TensorRT for `dualexport plan` and for engines for RTX GPUs",
    )


def shorten_message(message: str) -> str:
    """The sentence of TensorRT's message that says what is wrong, without its source locations and echoes."""
    lines = [line.strip() for line in message.splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Invalid Node", "[", "ModelImporter", "In function"))
    ]
    text = telling[0] if telling else " ".join(lines)
    inner = re.search(r"API Usage Error \((.*?)\.? In \w+ at ", text)
    return inner[1] if inner else text.removeprefix("Assertion failed: ")


def _network_flags() -> int:
    """TensorRT 10 has to be told that the network is strongly typed; TensorRT 11 and RTX know nothing else."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _parser_error(path: Path, parser: Any) -> PlanError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return PlanError(f"{path.name}: {describe_bindings()} cannot parse it", fix=LINT_FIX)
    first = errors[0]
    node = f"node {first.node_name()} ({first.node_operator()})" if first.node_name() else "the file"
    reason = shorten_message(first.desc())
    return PlanError(f"{path.name}: {describe_bindings()} refuses {node}: {reason}", fix=LINT_FIX)


def _assembled_library() -> Path | None:
    """The TensorRT for RTX that scripts/install-cpu-tensorrt put under TensorRT's bindings, None for another one."""
    bindings = getattr(trt.Builder, "__module__", "").partition(".")[0]
    if bindings != "tensorrt_bindings":
        return None
    import tensorrt_bindings

    link = Path(tensorrt_bindings.__file__).with_name(f"{_SHARED_LIBRARY}1")
    return link.resolve() if link.exists() else None
