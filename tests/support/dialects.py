"""The three ways in which TensorRT's releases describe the same compiled layers.

Made after public dumps of TensorRT 10.0 to 10.4 and 10.13, and TensorRT 11's own log, which the others are made of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[\d, ]*)\].*?Datatype: (?P<type>\w+), Format.*?\}")
LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*), StreamId: \d+, Metadata: (?P<metadata>.*)$"
)
KERNEL = re.compile(r"(?<=__myl_)[A-Za-z0-9]+(?=_)")
SPELLED = {"Half": "FP16", "Float": "FP32"}
TACTICS = {
    "Int8": "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64",
    "Half": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x64x32",
    "Float": "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x32",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as TensorRT 11 lists it."""

    name: str
    dims: str
    dtype: str


@dataclass(frozen=True)
class Layer:
    """A layer as TensorRT 11 lists it."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tactic: str
    metadata: str


def read_eleven(log: str) -> tuple[Layer, ...]:
    """The layers of TensorRT 11's log that run a kernel."""
    layers = []
    for line in log.split("\n"):
        if (found := LINE.match(line)) and found["type"] not in ("signal", "wait"):
            inputs, constants, outputs = (_read(found[part]) for part in ("inputs", "constants", "outputs"))
            layers.append(
                Layer(found["name"], found["type"], inputs, constants, outputs, found["tactic"], found["metadata"])
            )
    return tuple(layers)


def _read(section: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(one["name"], one["dims"], one["type"]) for one in TENSOR.finditer(section))


def name_tactic(layer: Layer) -> Layer:
    """The layer with such a kernel's name as a GPU's autotuner chooses, by the type of its largest constant."""
    if layer.kind != "gemm" or not layer.constants:
        return layer
    matrix = max(layer.constants, key=lambda one: len(one.dims))
    return replace(layer, tactic=TACTICS[matrix.dtype])


def with_residual(layer: Layer) -> Layer:
    """The layer with a residual in FP16 that its kernel adds to what it multiplies, as it is listed: an input more."""
    return replace(layer, inputs=(*layer.inputs, replace(layer.outputs[0], dtype="Half")))


def write_ten(layers: tuple[Layer, ...], *, early: bool) -> str:
    """The log of TensorRT 10: with `early` that of 10.0 to 10.4, else of 10.5 to 10.16."""
    return "\n".join(_write_line(layer, early) for layer in layers)


def _write_line(layer: Layer, early: bool) -> str:
    name, tactic = (KERNEL.sub(_shorten, text) if early else text for text in (layer.name, layer.tactic))
    inputs = layer.inputs + (layer.constants if early else ())
    return (
        f"Name: {name}, LayerType: {layer.kind}, Inputs: [ {_write(inputs)}], Outputs: [ {_write(layer.outputs)}], "
        f"TacticName: {tactic}, StreamId: 0, Metadata: {layer.metadata}"
    )


def _write(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(
        f"{{ Name: {one.name}, Location: Device, Dimensions: [{one.dims}], Format/Datatype: Row major linear "
        f"{SPELLED.get(one.dtype, one.dtype)} format }}"
        for one in tensors
    )


def _shorten(name: re.Match[str]) -> str:
    """`MulMinMaxRounCast` -> `MulMinMaxRouCas`."""
    return re.sub(r"[A-Z][a-z0-9]*", lambda operation: operation[0][:3], name[0])
