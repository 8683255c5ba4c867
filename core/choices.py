"""Every enum that a user may choose from."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from .errors import OptionError

Choice = TypeVar("Choice", bound=Enum)


def choose(kind: type[Choice], value: Choice | str, option: str) -> Choice:
    """`value` as one of the enum `kind`, which a caller may also give as a string; raises OptionError."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(str(one.value) for one in kind)
        raise OptionError(f"{value!r} is no {option}", fix=f"choose one of {known}") from error


def choose_or_none(kind: type[Choice], value: Choice | str | None, option: str) -> Choice | None:
    """The same of a value that may be left out."""
    return None if value is None else choose(kind, value, option)


class ModelSize(str, Enum):
    """The network's sizes: nano (ours, for demos and tests) and the three published ones."""

    N = "n"
    T = "t"
    S = "s"
    B = "b"

    @property
    def frames(self) -> int:
        """Frames of the clips that a network of this size is trained on."""
        return 16 if self is ModelSize.N else 32


class Precision(str, Enum):
    """The type that an artifact's matrix multiplications compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"

    @property
    def is_eight_bit(self) -> bool:
        return self in (Precision.FP8, Precision.INT8)


class Graph(str, Enum):
    """The form of the network in a file: as traced, or folded into fewer layers."""

    PLAIN = "plain"
    FOLDED = "folded"


class InputType(str, Enum):
    """The input of an artifact: normalized clips, or raw RGB frames as a decoder delivers them."""

    FLOAT32 = "float32"
    UINT8 = "uint8"


class Runtime(str, Enum):
    """The library that runs the network."""

    TORCH = "torch"
    ONNX = "onnx"
    TENSORRT = "tensorrt"


class Reference(str, Enum):
    """The reference that artifacts are compared with."""

    TORCH = "torch"
    WHOLE = "whole"  # the network of fewer frames, on clips of all frames
    ONNX = "onnx"
    EXPECTED = "expected"
    STORED = "stored"


class Decoder(str, Enum):
    """The decoder of live sources: FFmpeg on the CPU, or GStreamer, which also has the hardware of Jetsons and GPUs."""

    AUTO = "auto"
    GSTREAMER = "gstreamer"
    FFMPEG = "ffmpeg"


class Compatibility(str, Enum):
    """On which other GPUs than the one it was built on an engine runs."""

    NONE = "none"
    AMPERE = "ampere+"
    SAME_SM = "same-sm"


class Method(str, Enum):
    """The rule by which the range of an activation is chosen."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MSE = "mse"
    MAX = "max"


class Place(str, Enum):
    """The linear layers to quantize: all, those that cost nothing on any device, or those that pay on a device."""

    ALL = "all"
    FREE = "free"
    DEVICE = "device"


class DeviceName(str, Enum):
    """The devices of the table, as they are called on the command line."""

    ORIN_NANO = "orin-nano"
    ORIN_NANO_25W = "orin-nano-25w"
    ORIN_NX = "orin-nx"
    AGX_ORIN = "agx-orin"
    THOR = "thor"
    RTX_4090 = "rtx-4090"
    L4 = "l4"
    A100 = "a100"
    H100 = "h100"
    H200 = "h200"
    B200 = "b200"
    RTX_PRO_6000 = "rtx-pro-6000"


class TensorRTRelease(str, Enum):
    """A release that lint checks for: the oldest, the one that JetPack 6 ships, and the newest generation."""

    V10_0 = "10.0"
    V10_3 = "10.3"
    V11 = "11"

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.value.split(".")))

    @property
    def opsets(self) -> range:
        """Versions of ONNX's operator set that its parser reads."""
        return range(9, 26) if self is TensorRTRelease.V11 else range(9, 21)


class Provider(str, Enum):
    """The execution provider of ONNX Runtime."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT_RTX = "tensorrt-rtx"

    @property
    def registered_name(self) -> str:
        names = {"cuda": "CUDAExecutionProvider", "tensorrt-rtx": "NvTensorRTRTXExecutionProvider"}
        return names.get(self.value, "CPUExecutionProvider")


class Server(str, Enum):
    """The server of the network on the device that a bundle is for."""

    TRITON = "triton"
    DEEPSTREAM = "deepstream"


class TritonBackend(str, Enum):
    """Triton's backends that can run the network."""

    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"
    PYTHON = "python"
