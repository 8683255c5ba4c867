"""Ways of breaking an exported graph of size n, FP32 or INT8, and the block that each breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from dualexport.core.files import hash_file
from dualexport.core.types import Array
from onnx import ModelProto, TensorProto, helper, numpy_helper

Breakage = Callable[[ModelProto], None]


def break_file(path: Path, *breakages: Breakage) -> None:
    """Break a file that a manifest lists, so that the manifest still takes it for its own."""
    model = onnx.load(path)
    for breakage in breakages:
        breakage(model)
    onnx.save(model, path)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        if artifact["path"] == path.name:
            artifact["sha256"] = hash_file(path)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def constants(model: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def change(tensor: TensorProto, how: Callable[[Array], Array]) -> None:
    values = np.ascontiguousarray(how(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def flip_a_sign(model: ModelProto) -> None:
    known, name = constants(model), "blocks.2.0.mlp.fc1.weight"
    change(known.get(name) or known[f"{name}_int8"], np.negative)


def swap_two_classes(model: ModelProto) -> None:
    for name in ("cls_head.fc_cls.weight", "cls_head.fc_cls.bias"):
        tensor = constants(model)[name]
        order = np.arange(tensor.dims[0])
        order[[3, 7]] = 7, 3
        change(tensor, lambda values, order=order: values[order])  # type: ignore[misc]


def scale_wrongly(layer: str) -> Breakage:
    """Of a quantized layer: its weights' scales eight times too large."""
    return lambda model: change(constants(model)[f"{layer}.weight.scale"], lambda scales: scales * scales.dtype.type(8))


def quantize_with_a_wrong_scale(model: ModelProto) -> None:
    if "blocks.1.0.mlp.fc1.weight.scale" in constants(model):
        scale_wrongly("blocks.1.0.mlp.fc1")(model)
        return
    node = next(node for node in model.graph.node if node.name == "blocks.1.0.mlp.fc1/Gemm")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "scale"))  # LayerNorm's output is within 5
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    at = list(model.graph.node).index(node)
    model.graph.node.insert(at, helper.make_node("QuantizeLinear", [node.input[0], "scale", "zero"], ["q"]))
    model.graph.node.insert(at + 1, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]))
    node.input[0] = "dq"


def cut_a_residual(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.name == "blocks.1.1/Add")
    kept = next(name for name in node.input if "attn.proj" in name)
    node.CopyFrom(helper.make_node("Identity", [kept], list(node.output), name=node.name))


def take_bgr_for_rgb(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "bgr"))
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "clip":
                node.input[place] = "swapped"
    model.graph.node.insert(0, helper.make_node("Gather", ["clip", "bgr"], ["swapped"], axis=1))


BREAKAGES: Mapping[Breakage, str] = {
    flip_a_sign: "blocks.2.0.mlp",
    swap_two_classes: "logits",
    quantize_with_a_wrong_scale: "blocks.1.0.mlp",
    cut_a_residual: "blocks.1.1.attn",
    take_bgr_for_rgb: "patch_embeds.0",
}
HINTS = {"patch_embeds.0": "colour order", "logits": "order of its classes"}  # beside a block's own name
