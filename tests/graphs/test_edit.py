"""Graph edits that need no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.core.errors import GraphError
from dualexport.graphs.describe import describe_onnx
from dualexport.graphs.edit import write_probabilities
from dualexport.graphs.load import load_graph
from dualexport.pipeline.runners import open_runner
from onnx import TensorProto, helper, numpy_helper


def _save(path: Path, classes: list[int]) -> None:
    """Half-precision logits, and a second output with nodes and weights of its own."""
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["clip"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "weights"], ["logits"]),
        helper.make_node("Add", ["clip", "offset"], ["kept_frames"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("clip", TensorProto.FLOAT, [2, 4])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT16, classes),
            helper.make_tensor_value_info("kept_frames", TensorProto.FLOAT, [2, 4]),
        ],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.ones(4, np.float32), "offset")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def test_one_output_of_probabilities_is_left_and_what_it_needs(tmp_path: Path) -> None:
    _save(tmp_path / "logits.onnx", [2, 3])
    write_probabilities(tmp_path / "logits.onnx", tmp_path / "probabilities.onnx")
    (output,) = describe_onnx(tmp_path / "probabilities.onnx").outputs
    assert (output.name, output.dtype, output.shape) == ("probabilities", "float32", (2, 3))
    graph = load_graph(tmp_path / "probabilities.onnx").graph
    assert [node.op_type for node in graph.node] == ["Cast", "MatMul", "Cast", "Softmax"]
    assert [tensor.name for tensor in graph.initializer] == ["weights"]

    clip = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    with open_runner(tmp_path / "logits.onnx") as before, open_runner(tmp_path / "probabilities.onnx") as after:
        scores = np.exp(before.infer({"clip": clip})["logits"].astype(np.float64))
        np.testing.assert_allclose(
            after.infer({"clip": clip})["probabilities"], scores / scores.sum(axis=1, keepdims=True), atol=1e-3
        )


def test_a_file_for_a_range_of_batches_stays_one(ranged: Path, tmp_path: Path) -> None:
    write_probabilities(ranged / "dualformer-demo.fp16.onnx", tmp_path / "probabilities.onnx")
    (output,) = describe_onnx(tmp_path / "probabilities.onnx").outputs
    assert list(output.batches) == list(range(1, 9))


def test_a_graph_that_gives_no_logits_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "logits.onnx", [2, 3])
    write_probabilities(tmp_path / "logits.onnx", tmp_path / "once.onnx")
    with pytest.raises(GraphError, match="has a tensor probabilities already"):
        write_probabilities(tmp_path / "once.onnx", tmp_path / "twice.onnx")
    graph = onnx.load(tmp_path / "logits.onnx")
    graph.graph.output[0].type.tensor_type.shape.dim.pop()
    onnx.save(graph, tmp_path / "flat.onnx")
    with pytest.raises(GraphError, match="is not"):
        write_probabilities(tmp_path / "flat.onnx", tmp_path / "twice.onnx")
