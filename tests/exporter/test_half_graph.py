"""FP16 of a graph: the same nodes, casts where float32 has to stay, and the same inputs and outputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from dualexport.clips.synthetic import render_pattern
from dualexport.core.choices import InputType, ModelSize, Precision
from dualexport.core.selection import parse_selections
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, trace
from dualexport.runtimes.onnx_runner import OnnxRunner
from onnx import ModelProto, TensorProto

DIVIDING = frozenset({"blocks.0.0.mlp.fc1", "blocks.3.1.mlp.fc1"})
STATISTICS = ("ReduceMean", "Sub", "Pow", "ReduceMean_2", "Add", "Sqrt", "Reciprocal")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network that selects tokens, takes raw frames and puts out what it selected, in FP32 and in FP16."""
    network = build_random_network(ModelSize.N, 0, parse_selections("T0:0.5,S2:0.74"))
    folder = tmp_path_factory.mktemp("pair")
    traced = trace(network, OnnxOptions(input_type=InputType.UINT8, with_selection=True))
    paths = folder / "fp32.onnx", folder / "fp16.onnx"
    for path, precision in zip(paths, (Precision.FP32, Precision.FP16), strict=True):
        traced.write(path, precision, parent=None, dividing_behind=DIVIDING)
    return paths


def types_of(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_half_computes_the_same_and_keeps_the_same_tokens(pair: tuple[Path, Path]) -> None:
    clip = render_pattern(1, 16, 224, 224)[None]
    with OnnxRunner(pair[0]) as single, OnnxRunner(pair[1]) as half:
        assert (half.inputs, half.outputs) == (single.inputs, single.outputs)
        expected, found = single.infer({"clip": clip}), half.infer({"clip": clip})
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=2e-2)
    np.testing.assert_array_equal(found["kept_frames"], expected["kept_frames"])


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_as_many_frames_are_kept_however_a_runtime_rounds(pair: tuple[Path, Path], level: str) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(pair[1], options)
    random = np.random.default_rng(0)
    for _ in range(3):
        (kept,) = session.run(["kept_frames"], {"clip": random.integers(0, 256, (1, 16, 224, 224, 3), np.uint8)})
        assert kept[0].tolist() == sorted(set(kept[0].tolist()) & set(range(8)))
        assert len(kept[0]) == 4


def test_casts_are_added_and_rows_are_standardized_behind_the_product_where_that_was_asked_for(
    pair: tuple[Path, Path],
) -> None:
    single, half = (onnx.load(path).graph.node for path in pair)
    kinds = [Counter(node.op_type for node in nodes if node.op_type != "Cast") for nodes in (single, half)]
    added = {"ReduceMean": 2, "Sub": 1, "Pow": 1, "Add": 2, "Sqrt": 1, "Reciprocal": 1, "Mul": 1}
    expected = kinds[0] + Counter({kind: 2 * count for kind, count in added.items()})
    expected["LayerNormalization"] -= 2
    assert kinds[1] == expected
    names = [node.name for node in half]
    assert len(set(names)) == len(names)
    product = next(node for node in half if node.name == "blocks.3.1.mlp.fc1/Gemm")
    assert list(product.input) == ["blocks.3.1/Add", "blocks.3.1.mlp.fc1.weight"]


def test_no_tensor_is_cast_twice(pair: tuple[Path, Path]) -> None:
    casts = [(node.input[0], node.attribute[0].i) for node in onnx.load(pair[1]).graph.node if node.op_type == "Cast"]
    assert len(set(casts)) == len(casts)


def test_sums_stay_in_float32_and_all_else_is_half(pair: tuple[Path, Path]) -> None:
    model = onnx.load(pair[1])
    types = types_of(model)
    single = {node.name for node in model.graph.node for name in node.output if types[name] == TensorProto.FLOAT}
    assert {name for name in single if "/Cast" not in name} == {
        *(f"blocks.{stage}.{block}.attn.attend.softmax/Softmax" for stage in range(4) for block in range(2)),
        *(f"{layer}/{name}" for layer in DIVIDING for name in STATISTICS),
        "network/ReduceMean",
        "time_score_predictor.0.score_network/Squeeze",
        "time_score_predictor.0/ReduceMax",
        "time_score_predictor.0/Unsqueeze_2",
    }
    wide = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert wide == {"standardize.square", "standardize.epsilon"}
