"""Reads the layers of an engine out of TensorRT's verbose build log, or out of the engine inspector's JSON.

Both list the same facts when the engine is built with detailed profiling verbosity, in three dialects. TensorRT 10
names a tensor's type and layout in one field (`Format/Datatype`), TensorRT 11 in two. Weights, scales and biases stand
among the inputs, behind the activations, in 10.0 to 10.4; nowhere in 10.5 to 10.16; and as `Constants` in 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import PlanError
from .layer_kind import classify_layer, runs_a_kernel
from .plan import PlanLayer, PlanTensor

_LAYER_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]+), (?P<rest>Inputs: \[.*)$")
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[-\d, ]*)\](?P<rest>[^{}]*)\}"
)
_TACTIC = re.compile(r"TacticName: (?P<tactic>[^,]*),")
_CONSTANT = re.compile(r"const|_alpha(_|$)|_beta(_|$)")  # in the names of weights, scales and literals
_ORIGIN = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\[\s]|$)")
_DTYPES = (  # as TensorRT spells them, longer spellings before those that they contain
    ("BFloat16", "bfloat16"),
    ("BF16", "bfloat16"),
    ("Float8", "float8"),
    ("FP8", "float8"),
    ("Half", "float16"),
    ("FP16", "float16"),
    ("Float", "float32"),
    ("FP32", "float32"),
    ("Int64", "int64"),
    ("Int32", "int32"),
    ("UInt8", "uint8"),
    ("Int8", "int8"),
    ("Bool", "bool"),
)


@dataclass(frozen=True, slots=True)
class Compilation:
    """TensorRT's own words on an engine: the verbose log of its build, and the engine inspector's JSON.

    `inspection` is None where this machine cannot deserialize the engine, having no GPU. `compiler` is the name and
    version of what compiled it.
    """

    log: str
    inspection: str | None
    compiler: str


def parse_build_log(log: str) -> tuple[PlanLayer, ...]:
    """The layers that the verbose log of a build ends in. Raises PlanError when it holds none."""
    matches = (_LAYER_LINE.match(line) for line in log.split("\n"))  # splitlines() would also cut at \x1e in metadata
    layers = _finish([_layer_from_line(match) for match in matches if match and runs_a_kernel(match["type"])])
    if not layers:
        raise PlanError(
            "the build log lists no layer",
            fix="build with a verbose logger and ProfilingVerbosity.DETAILED, or report the log of this TensorRT",
        )
    return layers


def parse_inspection(document: str) -> tuple[PlanLayer, ...]:
    """The layers of the engine inspector's JSON. Raises PlanError when it holds none, or only their names."""
    try:
        entries = json.loads(document)["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise PlanError("the engine inspector's answer is not its JSON", fix="report this TensorRT version") from error
    described = [entry for entry in entries if isinstance(entry, dict) and runs_a_kernel(entry.get("LayerType", ""))]
    layers = _finish([_layer_from_entry(entry) for entry in described])
    if not layers:
        raise PlanError(
            f"the engine inspector describes none of {len(entries)} layers",
            fix="build the engine with ProfilingVerbosity.DETAILED",
        )
    return layers


def _layer_from_line(match: re.Match[str]) -> PlanLayer:
    inputs, constants, outputs = _split_sections(match["rest"])
    found = _TACTIC.search(outputs)
    tactic = found["tactic"] if found else ""
    return PlanLayer(
        name=match["name"],
        kind=classify_layer(match["name"], match["type"], tactic),
        inputs=tuple(_tensors_of(inputs)),
        weights=tuple(_tensors_of(constants)),
        outputs=tuple(_tensors_of(outputs)),
        origins=tuple(_ORIGIN.findall(outputs)),
        tactic=tactic,
    )


def _split_sections(rest: str) -> tuple[str, str, str]:
    """The texts of a line's inputs, constants (none before TensorRT 11) and what follows `Outputs:`."""
    before, _, outputs = rest.partition(", Outputs: [")
    inputs, _, constants = before.partition(", Constants: [")
    return inputs, constants, outputs


def _tensors_of(section: str) -> Iterator[PlanTensor]:
    for match in _TENSOR.finditer(section):
        dims = tuple(int(extent) for extent in match["dims"].split(",") if extent.strip())
        yield PlanTensor(match["name"], dims, _dtype_of(match["rest"]), _format_of(match["rest"]))


def _layer_from_entry(entry: dict[str, Any]) -> PlanLayer:
    constants = [_tensor_from_entry(constant) for constant in entry.get("Constants", ())]
    for role in ("Weights", "Bias"):  # how layers outside the compiler's fusions give theirs
        if entry.get(role, {}).get("Count"):
            constants.append(PlanTensor(role.lower(), (int(entry[role]["Count"]),), _dtype_of(entry[role]["Type"]), ""))
    return PlanLayer(
        name=entry["Name"],
        kind=classify_layer(entry["Name"], entry["LayerType"], entry.get("TacticName", "")),
        inputs=tuple(map(_tensor_from_entry, entry.get("Inputs", ()))),
        weights=tuple(constants),
        outputs=tuple(map(_tensor_from_entry, entry.get("Outputs", ()))),
        origins=tuple(_ORIGIN.findall(entry.get("Metadata", ""))),
        tactic=entry.get("TacticName", ""),
    )


def _tensor_from_entry(entry: dict[str, Any]) -> PlanTensor:
    described = entry.get("Datatype") or entry.get("Format/Datatype", "")
    layout = entry.get("Format") or entry.get("Format/Datatype", "")
    return PlanTensor(entry["Name"], tuple(entry.get("Dimensions", ())), _dtype_of(described), layout)


def _dtype_of(described: str) -> str:
    field = re.search(r"Datatype: (.*?)(?:, Format|$)", described)
    spelled = (field[1] if field else described).casefold()
    for spelling, dtype in _DTYPES:
        if spelling.casefold() in spelled:
            return dtype
    raise PlanError(f"unknown tensor type in the plan: {described.strip(' ,')}", fix="report this TensorRT version")


def _format_of(described: str) -> str:
    layout = re.search(r"Format(?:/Datatype)?: (.*?)\s*$", described)
    return layout[1] if layout else ""


def _finish(layers: Sequence[PlanLayer]) -> tuple[PlanLayer, ...]:
    """Give each layer its constants and the bytes that it moves.

    A tensor that a layer lists several times is either read again, which caches serve, or read in several parts: it
    counts as often as it is listed, but never with more than the whole tensor holds.
    """
    if not any(layer.weights for layer in layers):
        made = {tensor.name for layer in layers for tensor in layer.outputs}
        layers = [_separate_constants(layer, made) for layer in layers]
    whole: dict[str, int] = {}
    for layer in layers:
        for tensor in (*layer.inputs, *layer.outputs):
            whole[tensor.name] = max(whole.get(tensor.name, 0), tensor.size_bytes)
    return tuple(replace(layer, moved_bytes=_moved(layer, whole)) for layer in layers)


def _separate_constants(layer: PlanLayer, made: Set[str]) -> PlanLayer:
    """The layer with those inputs among its weights that are called constants and that no layer makes."""
    constants = tuple(one for one in layer.inputs if one.name not in made and _CONSTANT.search(one.name))
    return replace(layer, inputs=tuple(one for one in layer.inputs if one not in constants), weights=constants)


def _moved(layer: PlanLayer, whole: dict[str, int]) -> int:
    total = 0
    for tensors in (layer.inputs, layer.outputs):
        touched: dict[str, int] = {}
        for tensor in tensors:
            touched[tensor.name] = touched.get(tensor.name, 0) + tensor.size_bytes
        total += sum(min(size, whole[name]) for name, size in touched.items())
    return total
