"""The TensorRT that is installed: which one it is, what it logs, and how an ONNX file is read into it.

Serves TensorRT 10 and 11 and TensorRT for RTX: the network is always strongly typed, so that precision is what the
ONNX file says (tensors in FP16, Q/DQ for INT8) and the builder adds none of its own.
"""

from __future__ import annotations

import importlib
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import EngineError, MissingDependencyError, PlanError
from ...core.versions import is_older


def _import_tensorrt() -> Any:
    """TensorRT, else TensorRT for RTX; raises MissingDependencyError for none, and for one that does not load."""
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise _broken(name, error) from error
        except (ImportError, OSError) as error:
            raise _broken(name, error) from error
    raise MissingDependencyError(
        "TensorRT is not installed (no module tensorrt or tensorrt_rtx)",
        fix='pip install "dualexport[tensorrt]", on a Jetson apt-get install python3-libnvinfer, '
        "or on a machine without a GPU run scripts/install-cpu-tensorrt",
    )


def _broken(name: str, error: Exception) -> MissingDependencyError:
    """The error for a TensorRT that is installed and cannot be imported."""
    return MissingDependencyError(
        f"the module {name} is installed and cannot be loaded: {error}",
        fix="install its libraries in the same version (apt-get install --reinstall python3-libnvinfer libnvinfer-dev "
        "on a Jetson, elsewhere pip install --force-reinstall tensorrt), or uninstall it",
    )


trt = _import_tensorrt()  # the other modules take it from here

__all__ = [
    "LINT_FIX",
    "ParsedNetwork",
    "RecordingLogger",
    "compiler_name",
    "is_for_rtx",
    "library_name",
    "library_version",
    "make_builder",
    "needs_gpu",
    "parse_network",
    "require_supported_version",
    "shorten_message",
    "trt",
]

OLDEST = "10.0"  # the first that builds strongly typed networks from what the ONNX file says
LINT_FIX = "run `dualexport lint` on the file, and export it again if it was changed since"
KEPT_LINES = 2000  # of the log of an engine that runs, which may be for days
_SHARED_LIBRARY = "libtensorrt_rtx.so."


class RecordingLogger(trt.ILogger):  # type: ignore[misc, name-defined]  # TensorRT has no type hints
    """Keeps what TensorRT says, and the warnings and errors of it once more; `echo` is told each message as it comes.

    Of a build it keeps everything, since the log holds the plan; without `verbose`, which is for engines that run, the
    last KEPT_LINES messages of some weight.
    """

    def __init__(self, echo: Callable[[str], None] | None = None, *, verbose: bool = True) -> None:
        super().__init__()
        kept = None if verbose else KEPT_LINES
        self.lines: deque[str] = deque(maxlen=kept)
        self.warnings: deque[str] = deque(maxlen=kept)
        self.errors: deque[str] = deque(maxlen=kept)
        self._verbose = verbose
        self._echo = echo
        self._cause: str | None = None

    def log(self, severity: Any, message: str) -> None:
        if self._verbose or severity != trt.ILogger.Severity.VERBOSE:
            self.lines.append(message)
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)
            self._cause = self._cause or message
        elif severity == trt.ILogger.Severity.WARNING:
            self.warnings.append(message)
        if self._echo is not None:
            self._echo(message)

    def take_error(self) -> str:
        """The reason why TensorRT gave up: its first error since this was asked last, the cause of the others."""
        cause, self._cause = self._cause, None
        return shorten_message(cause) if cause else "it gives no reason"


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """An ONNX file in TensorRT. The parser holds the weights, so it lives as long as the network."""

    builder: Any
    network: Any
    parser: Any


def is_for_rtx() -> bool:
    """True for TensorRT for RTX, which builds portable engines and needs no GPU for that."""
    return trt.__name__ == "tensorrt_rtx" or _assembled_library() is not None


def library_name() -> str:
    return "TensorRT for RTX" if is_for_rtx() else "TensorRT"


def library_version() -> str:
    """The version of the library that compiles and runs engines; the bindings over it may have another one."""
    assembled = _assembled_library()
    return assembled.name.removeprefix(_SHARED_LIBRARY) if assembled else str(trt.__version__)


def compiler_name() -> str:
    """As `plan` names the compiler: `TensorRT 10.3.0`."""
    return f"{'TensorRT for RTX' if trt.__name__ == 'tensorrt_rtx' else 'TensorRT'} {trt.__version__}"


def require_supported_version(version: str) -> None:
    """Raise EngineError for a TensorRT before 10.0; TensorRT for RTX has counted anew from 1.0."""
    if not is_for_rtx() and is_older(version, OLDEST):
        raise EngineError(
            f"TensorRT {version} is installed, 10.0 or newer is needed",
            fix="on a Jetson Orin install JetPack 6.1 (TensorRT 10.3) or newer, elsewhere pip install -U tensorrt",
        )


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
        raise needs_gpu(logger.take_error()) from error


def needs_gpu(reason: str) -> EngineError:
    """The error where TensorRT cannot start, and what can be done there instead."""
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
        return PlanError(f"{path.name}: {compiler_name()} cannot parse it", fix=LINT_FIX)
    first = errors[0]
    node = f"node {first.node_name()} ({first.node_operator()})" if first.node_name() else "the file"
    reason = shorten_message(first.desc())
    return PlanError(f"{path.name}: {compiler_name()} refuses {node}: {reason}", fix=LINT_FIX)


def _assembled_library() -> Path | None:
    """The TensorRT for RTX that scripts/install-cpu-tensorrt put under TensorRT's bindings, None for another one."""
    bindings = getattr(trt.Builder, "__module__", "").partition(".")[0]
    if bindings != "tensorrt_bindings":
        return None
    import tensorrt_bindings

    link = Path(tensorrt_bindings.__file__).with_name(f"{_SHARED_LIBRARY}1")
    return link.resolve() if link.exists() else None
