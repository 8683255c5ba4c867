"""A folder as `dualexport onnx` writes it, of a network that is exported and run in milliseconds, and its videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from dualexport.clips.synthetic import render_pattern, write_video
from dualexport.core.choices import Graph, ModelSize, Precision
from dualexport.core.files import hash_file
from dualexport.core.manifest import Manifest, write_manifest
from dualexport.core.types import Array, Artifact, Preprocessing, TensorSpec, Weights
from onnx import TensorProto, helper, numpy_helper

CLIP = Preprocessing(frames=4, stride=2, size=32)
LABELS = ("turning left", "turning right", "standing still")
SHAPE = (1, 3, CLIP.frames, CLIP.size, CLIP.size)
ROWS, WIDTH = 3 * CLIP.frames * CLIP.size, CLIP.size


def make_folder(folder: Path) -> Path:
    """Write the FP32 and the FP16 graph of the network, and their manifest."""
    folder.mkdir(parents=True)
    artifacts = []
    for precision in (Precision.FP32, Precision.FP16):
        path = folder / f"dualformer-n.{precision.value}.onnx"
        onnx.save(make_network(precision), path)
        specs = (TensorSpec("clip", "float32", SHAPE),), (TensorSpec("logits", "float32", (1, len(LABELS))),)
        artifacts.append(
            Artifact("onnx", precision, Graph.FOLDED, path, hash_file(path), *specs, None, {"opset": 20, "nodes": 9})
        )
    manifest = Manifest(
        folder, ModelSize.N, len(LABELS), Weights(seed=0), CLIP, tuple(artifacts), {"dualexport": "1"}, labels=LABELS
    )
    write_manifest(manifest, manifest.path)
    return folder


def make_videos(folder: Path) -> Path:
    """Write two labelled videos, and return the list of them."""
    folder.mkdir(parents=True)
    for number in range(2):
        write_video(folder / f"{number}.mp4", render_pattern(number, 12, 48, 64), keyframe_interval=4)
    (folder / "labels.csv").write_text(f"path,label\n0.mp4,{LABELS[0]}\n1.mp4,{LABELS[1]}\n")
    return folder / "labels.csv"


def make_network(precision: Precision) -> onnx.ModelProto:
    """One block of a folded graph, rows of pixels for tokens: stacked query, key and value, two linear layers."""
    dtype = np.float32 if precision is Precision.FP32 else np.float16
    random = np.random.default_rng(0)
    constants = {
        "rows": np.array([ROWS, WIDTH]),
        "first": np.array([0]),
        "blocks.0.0.attn.qkv.weight": _draw(random, dtype, 3, WIDTH, WIDTH),
        "blocks.0.0.mlp.fc1.weight": _draw(random, dtype, 2 * WIDTH, WIDTH),
        "blocks.0.0.mlp.fc1.bias": _draw(random, dtype, 2 * WIDTH),
        "blocks.0.0.mlp.fc2.weight": _draw(random, dtype, WIDTH, 2 * WIDTH),
        "blocks.0.0.mlp.fc2.bias": _draw(random, dtype, WIDTH),
        "cls_head.fc_cls.weight": _draw(random, dtype, len(LABELS), WIDTH),
        "cls_head.fc_cls.bias": _draw(random, dtype, len(LABELS)),
    }
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["clip"], ["cast"], name="cast", to=number),
        helper.make_node("Reshape", ["cast", "rows"], ["tokens"], name="tokens"),
        helper.make_node("Unsqueeze", ["tokens", "first"], ["one"], name="blocks.0.0.attn.qkv/Unsqueeze"),
        _multiply("MatMul", "blocks.0.0.attn.qkv", "one", "stacked"),
        helper.make_node("ReduceMean", ["stacked", "first"], ["mixed"], name="blocks.0.0.attn/Mean", keepdims=0),
        _multiply("Gemm", "blocks.0.0.mlp.fc1", "mixed", "wide"),
        helper.make_node("Relu", ["wide"], ["active"], name="blocks.0.0.mlp/Relu"),
        _multiply("Gemm", "blocks.0.0.mlp.fc2", "active", "narrow"),
        helper.make_node("ReduceMean", ["narrow", "first"], ["pooled"], name="pool", keepdims=1),
        _multiply("Gemm", "cls_head.fc_cls", "pooled", "scores"),
        helper.make_node("Cast", ["scores"], ["logits"], name="uncast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, len(LABELS)))],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _multiply(operator: str, layer: str, taken: str, given: str) -> onnx.NodeProto:
    inputs = [taken, f"{layer}.weight"]
    if operator != "Gemm":
        return helper.make_node(operator, inputs, [given], name=f"{layer}/{operator}")
    return helper.make_node(operator, [*inputs, f"{layer}.bias"], [given], name=f"{layer}/{operator}", transB=1)


def _draw(random: np.random.Generator, dtype: type[np.floating], *shape: int) -> Array:
    drawn: Array = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)
    return drawn
