"""The compiled plan of an engine: its layers, what they compute and what they move.

One data type whichever the source, TensorRT's verbose build log or its engine inspector.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.choices import Precision
from .layer_kind import LayerKind, dequantizes_first, precision_in_tactic

PLAN_FORMAT = 2  # of the JSON document; raised when a reader of the former would misread it

ITEM_BYTES: Mapping[str, int] = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8": 1,
    "int64": 8,
    "int32": 4,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}

DTYPES: Mapping[Precision, str] = {
    Precision.FP32: "float32",
    Precision.FP16: "float16",
    Precision.FP8: "float8",
    Precision.INT8: "int8",
}
_PRECISIONS = {
    "float32": Precision.FP32,
    "float16": Precision.FP16,
    "bfloat16": Precision.FP16,  # the same rate and the same bytes
    "float8": Precision.FP8,
    "int8": Precision.INT8,
}
_EIGHT_BITS = ("int8", "float8")


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """A tensor as one compiled layer sees it: a whole tensor, or the part of it that the layer touches.

    An extent that depends on the batch of a range is -1, and the tensor's size is not known.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str
    format: str

    @property
    def elements(self) -> int:
        return 0 if -1 in self.dims else math.prod(self.dims)

    @property
    def size_bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """One kernel of the engine.

    `origins` are the ONNX nodes it was made from. `moved_bytes` are the activations read and written, each once;
    `macs` the multiply-accumulates of the ONNX nodes attributed to this layer. `weights` are empty where TensorRT does
    not list them (10.5 to 10.16); `graph_weights` are those of the ONNX nodes then. `tactic` is the kernel's name.
    """

    name: str
    kind: LayerKind
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
    weights: tuple[PlanTensor, ...]
    origins: tuple[str, ...]
    moved_bytes: int = 0
    macs: int = 0
    tactic: str = ""
    graph_weights: tuple[PlanTensor, ...] = ()

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.weights or self.graph_weights)

    @property
    def label(self) -> str:
        """The network's own names for this layer, the nodes of one module together.

        Nodes `mlp.fc1/MatMul` and `mlp.fc1/Add` give `mlp.fc1/MatMul+Add`. A layer that the compiler added has its
        name, and that of the tensor it reads.
        """
        operators: dict[str, list[str]] = {}
        for origin in self.origins:
            module, _, operator = origin.rpartition("/")
            operators.setdefault(module, []).append(operator)
        parts = (f"{module}/{'+'.join(names)}" if module else "+".join(names) for module, names in operators.items())
        return ", ".join(parts) or " of ".join((self.name, *(tensor.name for tensor in self.inputs[:1])))

    @property
    def precision(self) -> Precision | None:
        """The type that the products are computed in; None for a layer without any, or in another type.

        The kernel's name says it, where TensorRT gives it a telling one. Else 8-bit weights with activations in a wider
        type are weight-only quantization, whose products run in the wider type, as they do where the kernel dequantizes
        both factors first; and where no weights are listed, what stands beside an 8-bit activation is a residual that
        the kernel adds.
        """
        if not self.kind.multiplies_matrices and not self.macs:
            return None
        activations = [tensor.dtype for tensor in self.inputs]
        if self.kind is LayerKind.ATTENTION:
            return _widest(activations[:2])
        if (named := precision_in_tactic(self.tactic)) is not None:
            return named
        if dequantizes_first(self.name):
            return _widest([tensor.dtype for tensor in self.outputs])
        matrix = max(self.weights, key=lambda tensor: tensor.elements, default=None)
        if matrix is None or matrix.elements == 1:
            if eight := next((dtype for dtype in activations[:2] if dtype in _EIGHT_BITS), None):
                return _PRECISIONS[eight]
            return _widest(activations[:1]) or _widest([tensor.dtype for tensor in self.outputs])
        if matrix.dtype in _EIGHT_BITS and matrix.dtype not in activations:
            return _widest(activations)
        return _PRECISIONS.get(matrix.dtype)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """The kernels that TensorRT made of one ONNX file.

    `source` is "build log" or "engine inspector". `graph_macs` counts the ONNX graph; what of it no layer could be
    found for is `unattributed_macs`. `uncounted_nodes` are products whose shapes the ONNX file does not give.
    `asked_shares` are the shares of the graph's multiply-accumulates that it asks for in each precision.
    """

    model: str
    compiler: str
    source: str
    layers: tuple[PlanLayer, ...]
    attentions: int
    fused_attentions: int
    graph_macs: int
    uncounted_nodes: tuple[str, ...] = ()
    asked_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def layers_by_kind(self) -> dict[LayerKind, int]:
        """Number of layers of each kind that occurs, in LayerKind's order."""
        counts = Counter(layer.kind for layer in self.layers)
        return {kind: counts[kind] for kind in LayerKind if counts[kind]}

    @property
    def moved_bytes(self) -> int:
        """Activations read and written by one inference."""
        return sum(layer.moved_bytes for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Weights read by one inference."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def unattributed_macs(self) -> int:
        return self.graph_macs - sum(layer.macs for layer in self.layers)

    @property
    def work_shares(self) -> dict[str, float]:
        """Share of the graph's multiply-accumulates by precision ("fp32", "int8").

        What is not known is "other" (another type) or "unattributed" (no layer names the node).
        """
        work: Counter[str] = Counter()
        for layer in self.layers:
            work[layer.precision.value if layer.precision else "other"] += layer.macs
        work["unattributed"] = self.unattributed_macs
        order = (*(precision.value for precision in Precision), "other", "unattributed")
        return {name: work[name] / self.graph_macs for name in order if work[name] > 0}

    @property
    def movement_layers(self) -> tuple[PlanLayer, ...]:
        """Layers that only rearrange data: transpose, copy, reformat, pad, concatenate."""
        return tuple(layer for layer in self.layers if layer.kind is LayerKind.MOVEMENT)

    def heaviest(self, count: int = 10) -> tuple[PlanLayer, ...]:
        """The layers that move the most bytes, weights included, the heaviest first."""
        by_weight = sorted(self.layers, key=lambda layer: layer.moved_bytes + layer.weight_bytes, reverse=True)
        return tuple(by_weight[:count])

    def document(self) -> dict[str, Any]:
        """The plan as a JSON document: the derived figures, then every layer."""
        return {
            "format": PLAN_FORMAT,
            "model": self.model,
            "compiler": self.compiler,
            "source": self.source,
            "layer_count": len(self.layers),
            "layers_by_kind": {kind.value: count for kind, count in self.layers_by_kind.items()},
            "attentions": self.attentions,
            "fused_attentions": self.fused_attentions,
            "moved_mb": self.moved_bytes / 1e6,
            "weights_mb": self.weight_bytes / 1e6,
            "gmacs": self.graph_macs / 1e9,
            "unattributed_gmacs": self.unattributed_macs / 1e9,
            "uncounted_nodes": list(self.uncounted_nodes),
            "work_shares": self.work_shares,
            "asked_shares": dict(self.asked_shares),
            "heaviest": [layer.name for layer in self.heaviest()],
            "movement": [layer.name for layer in self.movement_layers],
            "layers": [_layer_document(layer) for layer in self.layers],
        }


def _layer_document(layer: PlanLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind.value,
        "origins": list(layer.origins),
        "precision": layer.precision.value if layer.precision else None,
        "tactic": layer.tactic,
        "moved_bytes": layer.moved_bytes,
        "weight_bytes": layer.weight_bytes,
        "macs": layer.macs,
        "inputs": [_tensor_document(tensor) for tensor in layer.inputs],
        "outputs": [_tensor_document(tensor) for tensor in layer.outputs],
    }


def _tensor_document(tensor: PlanTensor) -> dict[str, Any]:
    return {"name": tensor.name, "dims": list(tensor.dims), "dtype": tensor.dtype, "format": tensor.format}


def _widest(dtypes: list[str]) -> Precision | None:
    known = [dtype for dtype in dtypes if dtype in _PRECISIONS]
    return _PRECISIONS[max(known, key=lambda dtype: ITEM_BYTES[dtype])] if known else None
