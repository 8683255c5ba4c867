"""An engine as a file: how it was asked for, what is recorded of it, and where it may be loaded.

Needs no TensorRT, so that a manifest with engines can be read and refused anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgspec

from ...core.choices import Compatibility, Precision
from ...core.errors import EngineError, EngineNotFoundError
from ...core.reading import FileKind
from ...core.types import Artifact

FORMAT = "tensorrt"
GIB = 1 << 30
SUFFIX = ".engine"
RTX_MAGIC = b"vtrt"
ENGINE = FileKind(
    "a TensorRT engine",
    EngineError,
    "build one with `dualexport trt`",
    max_bytes=64 * GIB,
    missing=EngineNotFoundError,
)
_MAGICS = (b"ptrt", b"ftrt", RTX_MAGIC)
_VERSION_BYTES = slice(24, 28)  # of an engine file: major, minor, patch, build; what trtexec --getPlanVersionOnly reads


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of an engine's build; None leaves TensorRT's default.

    `optimal_batch` is the batch of a range to be fastest with, by default the largest.
    `strict` refuses an engine whose precision TensorRT 10's plan does not prove, which is kept with a warning else.
    `targets` are compute capabilities ("8.6") of RTX GPUs that an engine is built for on a machine without them.
    """

    workspace_gib: float | None = None
    optimization_level: int | None = None
    compatible: Compatibility | str = Compatibility.NONE
    version_compatible: bool = False
    targets: tuple[str, ...] = ()
    strict: bool = False
    optimal_batch: int | None = None


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """The manifest's record of an engine, as its entry's `options`; None and False are left out there.

    `tensorrt` is the version of the library that built it, `compute_capability` that of the GPU ("8.7"), or for an
    engine built ahead of time the targets ("8.6 8.9"), or None where it runs on every RTX GPU from Ampere on. Shares
    are of the network's multiply-accumulates, by the type they are computed in.
    """

    compiler: str
    tensorrt: str
    compute_capability: str | None = None
    compatible: str = Compatibility.NONE.value
    version_compatible: bool = False
    gpu: str | None = None
    driver: str | None = None
    cuda: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    workspace_gib: float | None = None
    optimization_level: int | None = None
    optimal_batch: int | None = None
    build_seconds: float = 0.0
    size_bytes: int = 0
    layers: int = 0
    attentions: int = 0
    fused_attentions: int = 0
    fp32_share: float = 0.0
    fp16_share: float = 0.0
    fp8_share: float = 0.0
    int8_share: float = 0.0
    unknown_share: float = 0.0

    def document(self) -> dict[str, str | int | float | bool]:
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}

    @property
    def for_rtx(self) -> bool:
        return self.compiler.endswith("RTX")


def read_record(artifact: Artifact) -> EngineRecord:
    """The record in a manifest's entry; raises EngineError for one that holds none."""
    known = {field.name for field in fields(EngineRecord)}
    options: Mapping[str, str | int | float | bool] = artifact.options
    try:
        return msgspec.convert({name: value for name, value in options.items() if name in known}, EngineRecord)
    except msgspec.ValidationError as error:
        raise EngineError(
            f"{artifact.path.name}: the manifest does not say what built this engine",
            fix="build it again: " + rebuild_command(artifact.path.parent, artifact.precision),
        ) from error


def rebuild_command(folder: Path, precision: Precision) -> str:
    """The command that builds an engine of that precision here."""
    return f"`dualexport trt {folder} --{precision.value}`"


def name_engine(network: str, precision: Precision, device: str, version: str) -> str:
    """`dualformer-b.int8.sm87-trt10.3.engine`."""
    return f"{network}.{precision.value}.{name_place(device, version)}{SUFFIX}"


def name_place(device: str, version: str) -> str:
    """`sm87-trt10.3`: where an engine and its timing cache belong."""
    return f"{device}-trt{'.'.join(version.split('.')[:2])}"


def read_engine_version(path: Path) -> tuple[str, bool]:
    """The TensorRT version that an engine file names in its header, and whether that is TensorRT for RTX.

    Raises EngineError for a file that is no engine or was cut off.
    """
    header = ENGINE.read_start(path, _VERSION_BYTES.stop)
    if len(header) < _VERSION_BYTES.stop or header[:4] not in _MAGICS:
        raise ENGINE.refuse(path, "it has no engine's header")
    return ".".join(map(str, header[_VERSION_BYTES])), header[:4] == RTX_MAGIC
