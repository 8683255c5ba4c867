"""Helpers for tests of engines: an INT8 graph, and an artifact for a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.core.types import Artifact
from dualexport.graphs.describe import describe_onnx
from onnx import helper, numpy_helper

NEEDS_TENSORRT = "needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one"


def require_builder() -> None:
    """Skip where no TensorRT can build; the ahead-of-time one needs no GPU."""
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)


def quantize_products(source: Path, target: Path) -> Artifact:
    """`source` with Q/DQ pairs around every product of a tensor and a matrix of weights, at an arbitrary scale."""
    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights:
            matrix = numpy_helper.to_array(weights[node.input[1]])
            scale = np.maximum(np.abs(matrix).max() / 127, 1e-4).astype(matrix.dtype)
            name = node.name.replace("/", ".")
            for part, value in (
                ("w", np.clip(np.round(matrix / scale), -127, 127).astype(np.int8)),
                ("ws", scale),
                ("xs", np.array(0.05, matrix.dtype)),
                ("z", np.array(0, np.int8)),
            ):
                graph.initializer.append(numpy_helper.from_array(value, f"{name}.{part}"))
            pair, x = [f"{name}.xs", f"{name}.z"], node.input[0]
            nodes += [
                helper.make_node("QuantizeLinear", [x, *pair], [f"{name}.xq"], name=f"{node.name}/QuantizeLinear"),
                helper.make_node("DequantizeLinear", [f"{name}.xq", *pair], [f"{name}.xd"], name=f"{node.name}/DQ"),
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}.w", f"{name}.ws", f"{name}.z"],
                    [f"{name}.wd"],
                    name=f"{node.name}/WDQ",
                ),
            ]
            node.input[:] = [f"{name}.xd", f"{name}.wd"]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    return describe_onnx(target)
