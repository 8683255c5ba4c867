"""`dualexport lint` names what TensorRT would refuse, and passes what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dualexport.core.choices import TensorRTRelease
from dualexport.core.errors import GraphError
from dualexport.graphs.lint import LintFinding, lint_onnx
from dualexport.graphs.tensorrt_support import READ_SINCE, UNREAD_OPERATORS
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
ALL = tuple(TensorRTRelease)


def lint_graph(
    folder: Path,
    nodes: list[NodeProto],
    shape: tuple[int | str, ...] = (4,),
    kind: int = FLOAT,
    opset: int = 20,
    **constants: np.ndarray | np.generic,
) -> tuple[LintFinding, ...]:
    """Findings of a graph whose input is `x` and whose output is the last node's first."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return lint_onnx(path)


def node(operator: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs or ["x"], outputs, name=f"block/{operator}", **attributes)


def test_a_graph_that_tensorrt_reads_has_no_finding(tmp_path: Path) -> None:
    assert lint_graph(tmp_path, [node("Relu")]) == ()


@pytest.mark.parametrize("operator", ["Det", "Unique", "BitwiseNot"])
def test_an_operator_that_no_release_reads_is_named(tmp_path: Path, operator: str) -> None:
    (finding,) = lint_graph(tmp_path, [node(operator)])
    assert (finding.node, finding.operator, finding.releases) == (f"block/{operator}", operator, ALL)
    assert finding.fix


def test_an_operator_of_another_domain_is_a_finding(tmp_path: Path) -> None:
    (finding,) = lint_graph(tmp_path, [node("FusedThing", domain="com.example")])
    assert "plugin" in finding.problem


def test_a_release_is_only_blamed_for_what_it_lacks(tmp_path: Path) -> None:
    (finding,) = lint_graph(tmp_path, [node("STFT", "x", "x")])
    assert finding.releases == (TensorRTRelease.V10_0, TensorRTRelease.V10_3)
    assert lint_onnx(tmp_path / "model.onnx", [TensorRTRelease.V11]) == ()


@pytest.mark.parametrize(
    ("opset", "releases"),
    [(8, ALL), (9, ()), (20, ()), (23, ALL[:2]), (25, ALL[:2]), (26, ALL)],
)
def test_the_opset_must_be_one_that_the_parser_reads(
    tmp_path: Path, opset: int, releases: tuple[TensorRTRelease, ...]
) -> None:
    findings = lint_graph(tmp_path, [node("Relu")], opset=opset)
    assert tuple(release for finding in findings for release in finding.releases) == releases


@pytest.mark.parametrize("operator", ["Transpose", "Gather", "Reshape"])
def test_uint8_frames_must_be_cast_before_anything_else(tmp_path: Path, operator: str) -> None:
    second = () if operator == "Transpose" else ("index",)
    nodes = [node(operator, "x", *second, outputs=("t",)), node("Cast", "t", to=FLOAT)]
    findings = lint_graph(tmp_path, nodes, kind=TensorProto.UINT8, shape=(2, 4), index=np.array([1, 0]))
    assert [finding.node for finding in findings] == [f"block/{operator}"]
    assert "cast" in findings[0].fix
    assert lint_graph(tmp_path, [node("Cast", to=FLOAT)], kind=TensorProto.UINT8) == ()


def test_float64_is_a_finding(tmp_path: Path) -> None:
    (finding,) = lint_graph(tmp_path, [node("Relu")], kind=TensorProto.DOUBLE)
    assert "double" in finding.problem
    assert "float32" in finding.fix


def test_more_than_eight_dimensions_are_a_finding(tmp_path: Path) -> None:
    (finding,) = lint_graph(tmp_path, [node("Relu")], shape=(1,) * 9)
    assert finding.node == "block/Relu"
    assert lint_graph(tmp_path, [node("Relu")], shape=(1,) * 8) == ()


def test_a_dynamic_input_is_a_finding(tmp_path: Path) -> None:
    (finding,) = lint_graph(tmp_path, [node("Relu")], shape=("batch", 4))
    assert finding.node == "x"
    assert "fixed batch" in finding.fix


@pytest.mark.parametrize(
    ("bad", "constants"),
    [
        (node("Einsum", "x", "x", equation="...i,...i->..."), {}),
        (node("Einsum", equation="ii->i"), {}),
        (node("MaxPool", outputs=("y", "indices"), kernel_shape=[1]), {}),
        (node("TopK", "x", "k", outputs=("y", "i")), {"k": np.array([4000])}),
        (node("Dropout", "x", "ratio", "training"), {"ratio": np.float32(0.1), "training": np.array(True)}),
        (node("BatchNormalization", "x", "w", "w", "w", "w", training_mode=1), {"w": np.ones(4, np.float32)}),
    ],
    ids=["einsum-ellipsis", "einsum-diagonal", "maxpool-indices", "topk", "dropout-training", "batchnorm-training"],
)
def test_an_unsupported_attribute_is_a_finding(tmp_path: Path, bad: NodeProto, constants: dict[str, Any]) -> None:
    (finding,) = lint_graph(tmp_path, [bad], shape=(4, 4), **constants)
    assert finding.operator == bad.op_type


@pytest.mark.parametrize(
    ("scale", "zero_point", "opset", "said"),
    [
        (np.float32(0.1), np.int8(0), 18, None),
        (np.float32(0.1), np.int8(3), 18, "zero points"),
        (np.float32(-0.1), np.int8(0), 18, "positive"),
        (np.float16(0.1), np.int8(0), 18, "opset 19"),
        (np.float16(0.1), np.int8(0), 19, None),
    ],
)
def test_quantization_must_be_symmetric_with_positive_scales(
    tmp_path: Path, scale: np.generic, zero_point: np.generic, opset: int, said: str | None
) -> None:
    quantize = node("QuantizeLinear", "x", "scale", "zero")
    findings = lint_graph(tmp_path, [quantize], opset=opset, scale=scale, zero=zero_point)
    assert [said in finding.problem for finding in findings if said] == ([True] if said else [])
    assert bool(findings) == bool(said)


def test_an_operator_inside_a_branch_is_found(tmp_path: Path) -> None:
    inner = helper.make_node("Det", ["x"], ["d"], name="then/Det")
    branch = helper.make_graph([inner], "then", [], [helper.make_tensor_value_info("d", FLOAT, [])])
    choice = node("If", "condition", then_branch=branch, else_branch=branch)
    findings = lint_graph(tmp_path, [choice], shape=(2, 2), condition=np.array(True))
    assert "then/Det" in {finding.node for finding in findings}


def test_a_file_that_is_no_onnx_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    text = tmp_path / "text.onnx"
    text.write_text("no graph")
    for unreadable in (empty, text, tmp_path / "missing.onnx"):
        with pytest.raises(GraphError):
            lint_onnx(unreadable)


def test_the_table_agrees_with_the_parser_that_is_installed() -> None:
    trt = pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == "" and schema.since_version < 26}
    read = {name for name in known if parser.supports_operator(name)}
    assert not read & UNREAD_OPERATORS
    assert known - read <= UNREAD_OPERATORS | READ_SINCE.keys()
