"""Plans of a model, read from a recorded log, and from the TensorRT that is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dualexport.core.choices import DeviceName, ModelSize, Precision
from dualexport.core.errors import GraphError, PlanError
from dualexport.exporter.dualformer.network import CONFIGS, count_macs
from dualexport.graphs.work import GraphWork, read_graph_work
from dualexport.runtimes.plans.attribution import attribute_work
from dualexport.runtimes.plans.devices import DEVICES, estimate
from dualexport.runtimes.plans.layer_kind import LayerKind
from dualexport.runtimes.plans.parse import parse_build_log, parse_inspection
from dualexport.runtimes.plans.plan import EnginePlan, PlanLayer
from onnx import TensorProto, helper, numpy_helper

ROW_MAJOR = "(Linear) Row major linear format"


def tensor(name: str, dims: str, dtype: str) -> str:
    return f"{{ Name: {name}, Dimensions: [{dims}], Strides: [1], Datatype: {dtype}, Format: {ROW_MAJOR} }}"


def log_line(name: str, kind: str, inputs: list[str], outputs: list[str], nodes: str, constants: str = "") -> str:
    metadata = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes.split())
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {', '.join(inputs)}], Constants: [{constants}], "
        f"Outputs: [ {', '.join(outputs)}], TacticName: t_0x1, StreamId: 0, Metadata: {metadata}"
    )


# As TensorRT 11 writes it, cut down to one attention block: a copy, a synchronization, a product, a fused attention,
# an FP32 LayerNorm that lists its input twice and an INT8 product.
LOG_11 = "\n".join(
    (
        "Engine generation completed in 0.2 seconds.",
        "Layers:",
        log_line(
            "__myl_Tran_myl0_0", "kgen", [tensor("x", "8,64", "Half")], [tensor("t", "64,8", "Half")], "a/Transpose"
        ),
        "Name: __mye1_myl0_1, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
        "EventId: 1, Metadata: ",
        log_line(
            "qkv_myl0_2",
            "gemm",
            [tensor("t", "8,64", "Half")],
            [tensor("qkv", "8,192", "Half")],
            "a.qkv/MatMul a.qkv/Add",
            f" {tensor('w', '64,192', 'Half')}, {tensor('alpha', '1', 'Float')}",
        ),
        log_line(
            "_gemm_mha_v2_myl0_3",
            "kgen",
            [tensor("qkv", "8,64", "Half")] * 3,
            [tensor("y", "8,64", "Half")],
            "a/MatMul a/Softmax a/MatMul_2",
        ),
        log_line(
            "__myl_CastMeanSubMulMeanAddSqrtDivMul_myl0_4",
            "kgen",
            [tensor("y", "8,64", "Float")] * 2,
            [tensor("n", "8,64", "Float")],
            "b/LayerNormalization",
        ),
        log_line(
            "fc1_myl0_5",
            "gemm",
            [tensor("n8", "8,64", "Int8"), tensor("y", "8,64", "Half")],
            [tensor("h", "8,64", "Half")],
            "b.fc1/MatMul",
            tensor("w8", "64,64", "Int8"),
        ),
        "Bindings:",
    )
)


def test_a_build_log_gives_every_kernel_and_no_synchronization() -> None:
    layers = parse_build_log(LOG_11)
    assert [layer.kind.value for layer in layers] == ["movement", "gemm", "attention", "normalization", "gemm"]
    assert layers[1].origins == ("a.qkv/MatMul", "a.qkv/Add")
    assert layers[1].label == "a.qkv/MatMul+Add"
    assert layers[1].weight_bytes == 64 * 192 * 2 + 4


def test_precision_is_that_of_the_products_operands() -> None:
    layers = parse_build_log(LOG_11)
    assert [layer.precision for layer in layers] == [None, Precision.FP16, Precision.FP16, None, Precision.INT8]


def test_weight_only_int8_counts_as_what_it_computes_in() -> None:
    line = log_line(
        "fc", "gemm", [tensor("x", "8,64", "Half")], [tensor("y", "8,64", "Half")], "fc", tensor("w", "64,64", "Int8")
    )
    assert parse_build_log(line)[0].precision is Precision.FP16


def test_bytes_count_a_tensor_read_twice_once_and_its_parts_each() -> None:
    layers = {layer.label: layer for layer in parse_build_log(LOG_11)}
    assert layers["a/MatMul+Softmax+MatMul_2"].moved_bytes == (3 + 1) * 8 * 64 * 2  # q, k and v are parts of qkv
    assert layers["b/LayerNormalization"].moved_bytes == (1 + 1) * 8 * 64 * 4


def test_a_log_of_tensorrt_10_is_read_alike() -> None:
    line = (
        "Name: fc1 + {ForeignNode[a...b]}, LayerType: CaskGemmConvolution, Inputs: [ { Name: x, Location: Device, "
        "Dimensions: [8,64], Format/Datatype: Channel major FP16 format where channel % 8 == 0 }], Outputs: [ { Name: "
        "y, Location: Device, Dimensions: [8,192], Format/Datatype: Row major linear FP16 format }], ParameterType: "
        "Convolution, TacticName: sm87_xmma_fprop, StreamId: 0, Metadata: [ONNX Layer: fc1]\x1e[ONNX Layer: fc1_bias]"
    )
    (layer,) = parse_build_log(line)
    assert layer.kind is LayerKind.CONVOLUTION
    assert layer.inputs[0].dims == (8, 64)
    assert layer.outputs[0].dtype == "float16"
    assert layer.origins == ("fc1", "fc1_bias")


def test_the_engine_inspector_gives_what_the_log_gives() -> None:
    entry = {
        "Name": "qkv_myl0_2",
        "LayerType": "gemm",
        "Inputs": [{"Name": "t", "Dimensions": [8, 64], "Format/Datatype": "Row major linear FP16 format"}],
        "Outputs": [{"Name": "qkv", "Dimensions": [8, 192], "Datatype": "Half", "Format": ROW_MAJOR}],
        "Constants": [{"Name": "w", "Dimensions": [64, 192], "Format/Datatype": "Half"}],
        "TacticName": "t_0x1",
        "Metadata": "[ONNX Layer: a.qkv/MatMul]\x1e[ONNX Layer: a.qkv/Add]",
    }
    signal = {"Name": "s", "LayerType": "signal", "Inputs": [], "Outputs": []}
    (inspected,) = parse_inspection(json.dumps({"Layers": [signal, entry], "Bindings": []}))
    logged = parse_build_log(LOG_11)[1]
    assert (inspected.kind, inspected.precision, inspected.origins) == (logged.kind, logged.precision, logged.origins)
    assert inspected.moved_bytes == logged.moved_bytes


@pytest.mark.parametrize("log", ["", "Layers:\nqkv_myl0_2\nfc1_myl0_5\nBindings:", "Engine generation completed."])
def test_a_log_without_layers_is_an_error(log: str) -> None:
    with pytest.raises(PlanError, match="no layer"):
        parse_build_log(log)


@pytest.mark.parametrize("document", ["not json", "{}", '{"Layers": []}', '{"Layers": ["qkv", "fc1"]}'])
def test_an_inspection_without_layers_is_an_error(document: str) -> None:
    with pytest.raises(PlanError):
        parse_inspection(document)


def test_work_is_shared_by_the_layers_that_compute_a_node_and_never_guessed() -> None:
    parts = [
        log_line(f"q{index}", "gemm", [tensor("x", "8,64", "Half")], [tensor(f"q{index}", dims, "Half")], "qkv")
        for index, dims in enumerate(("8,128", "8,64"))
    ]
    helpers = [
        log_line(
            f"__myl_MulSum_myl0_{index}", "kgen", [tensor("q0", "8", "Half")], [tensor(f"z{index}", "8", "Half")], "z"
        )
        for index in range(2)
    ]
    work = GraphWork(macs={"qkv": 300, "z": 7, "gone": 5}, attentions=(), uncounted=())
    layers = attribute_work(parse_build_log("\n".join(parts + helpers)), work)
    assert [layer.macs for layer in layers] == [200, 100, 0, 0]
    plan = make_plan_of(layers, work)
    assert plan.unattributed_macs == 7 + 5
    assert plan.work_shares == {"fp16": 300 / 312, "unattributed": 12 / 312}


def make_plan_of(layers: tuple[PlanLayer, ...], work: GraphWork) -> EnginePlan:
    return EnginePlan("m.onnx", "TensorRT", "build log", layers, 0, 0, sum(work.macs.values()))


def test_the_document_is_json_and_holds_every_layer() -> None:
    layers = parse_build_log(LOG_11)
    plan = make_plan_of(layers, GraphWork({"a.qkv/MatMul": 8 * 64 * 192}, (), ()))
    document = json.loads(json.dumps(plan.document()))
    assert document["layer_count"] == len(document["layers"]) == 5
    assert document["movement"] == ["__myl_Tran_myl0_0"]
    assert document["layers_by_kind"] == {"gemm": 2, "attention": 1, "normalization": 1, "movement": 1}


def test_an_estimate_is_bound_by_bytes_or_by_operations() -> None:
    layers = parse_build_log(LOG_11)
    plan = make_plan_of(attribute_work(layers, GraphWork({"a.qkv/MatMul": 10**9}, (), ())), GraphWork({}, (), ()))
    device = DEVICES[DeviceName.AGX_ORIN]
    latency = estimate(plan, device)
    assert latency.layers_ms[0] == pytest.approx(2 * 8 * 64 * 2 / (device.bandwidth_gb_s * 1e6))
    assert latency.layers_ms[1] == pytest.approx(2e9 / (device.fp16_tops * 1e9))
    assert latency.total_ms == pytest.approx(sum(latency.layers_ms))


def test_every_device_is_faster_the_narrower_the_type() -> None:
    assert set(DEVICES) == set(DeviceName)
    for device in DEVICES.values():
        assert device.fp32_tops < device.fp16_tops < device.int8_tops


# ------------------------------------------------------------------------------------------------------------- graphs


Types = Mapping[str, tuple[int | str, ...]]


def save_graph(
    path: Path, nodes: list[onnx.NodeProto], inputs: Types, outputs: Types, weights: Mapping[str, Any] = {}
) -> Path:
    """An opset 20 model; a tensor is (element type, *dims)."""
    sources, results = (
        [helper.make_tensor_value_info(name, int(kind), dims) for name, (kind, *dims) in group.items()]
        for group in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", sources, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def save_attention(path: Path, kind: int = TensorProto.FLOAT16) -> Path:
    """softmax(q k^T) v over (windows * heads, tokens, head_dim), then a classifier with a softmax of its own."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], name="attn/Transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="attn/MatMul"),
        helper.make_node("Softmax", ["s"], ["p"], name="attn/Softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["o"], name="attn/MatMul_2"),
        helper.make_node("MatMul", ["o", "w"], ["l"], name="head/MatMul"),
        helper.make_node("Softmax", ["l"], ["y"], name="head/Softmax", axis=-1),
    ]
    tokens = (kind, 64, 392, 32)
    weight = np.random.default_rng(0).standard_normal((32, 16)).astype(dtype)
    return save_graph(path, nodes, {"q": tokens, "k": tokens, "v": tokens}, {"y": (kind, 64, 392, 16)}, {"w": weight})


def test_attentions_are_softmaxes_between_two_products(tmp_path: Path) -> None:
    work = read_graph_work(save_attention(tmp_path / "a.onnx"))
    assert work.attentions == (frozenset({"attn/MatMul", "attn/Softmax", "attn/MatMul_2"}),)
    assert work.macs == {
        "attn/MatMul": 64 * 392 * 392 * 32,
        "attn/MatMul_2": 64 * 392 * 392 * 32,
        "head/MatMul": 64 * 392 * 32 * 16,
    }


def test_macs_of_a_depth_wise_convolution_and_an_unnamed_gemm(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", group=4, kernel_shape=[3, 3]),
        helper.make_node("Flatten", ["c"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    weights = {"w": np.ones((4, 1, 3, 3), np.float32), "g": np.ones((10, 16), np.float32)}
    types = {"x": (TensorProto.FLOAT, 1, 4, 4, 4)}, {"y": (TensorProto.FLOAT, 1, 10)}
    work = read_graph_work(save_graph(tmp_path / "c.onnx", nodes, *types, weights))
    assert work.macs == {"conv": 4 * 2 * 2 * 9, "node_of_y": 160}


def test_a_dynamic_shape_is_refused_by_name(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["clip"], ["y"], name="relu")
    types = {"clip": (TensorProto.FLOAT, "batch", 4)}, {"y": (TensorProto.FLOAT, "batch", 4)}
    with pytest.raises(PlanError, match=r"clip .*\(batch, 4\)"):
        read_graph_work(save_graph(tmp_path / "d.onnx", [node], *types))


def test_a_file_that_is_no_onnx_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no graph")
    for unreadable in (path, tmp_path / "missing.onnx"):
        with pytest.raises(GraphError):
            read_graph_work(unreadable)


# ------------------------------------------------------------------------------------------- with TensorRT's compiler


def plan_file(path: Path) -> EnginePlan:
    pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one")
    from dualexport.pipeline.plan import plan_onnx

    return plan_onnx(path)


def test_fp16_attention_fuses_and_fp32_attention_does_not(tmp_path: Path) -> None:
    half = plan_file(save_attention(tmp_path / "half.onnx"))
    single = plan_file(save_attention(tmp_path / "single.onnx", TensorProto.FLOAT))
    assert (half.fused_attentions, half.attentions) == (1, 1)
    assert (single.fused_attentions, single.attentions) == (0, 1)
    assert half.work_shares == {"fp16": 1.0}
    assert single.work_shares == {"fp32": 1.0}
    assert single.moved_bytes > 10 * half.moved_bytes  # the scores, 64 x 392 x 392, go through memory


def test_quantized_products_are_int8_and_keep_their_names(tmp_path: Path) -> None:
    kind = TensorProto.FLOAT16
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zero"], ["xq"], name="fc1/QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zero"], ["xd"], name="fc1/DequantizeLinear"),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zero"], ["wd"], name="fc1/DequantizeLinear_2"),
        helper.make_node("MatMul", ["xd", "wd"], ["y"], name="fc1/MatMul"),
    ]
    weights = {
        "wq": np.random.default_rng(0).integers(-127, 128, (64, 256), dtype=np.int8),
        "sx": np.array(0.1, np.float16),
        "sw": np.array(0.01, np.float16),
        "zero": np.array(0, np.int8),
    }
    types = {"x": (kind, 1, 392, 64)}, {"y": (kind, 1, 392, 256)}
    plan = plan_file(save_graph(tmp_path / "q.onnx", nodes, *types, weights))
    assert plan.work_shares == {"int8": 1.0}
    (product,) = (layer for layer in plan.layers if layer.kind is LayerKind.GEMM)
    assert "fc1/MatMul" in product.origins


def test_standalone_padding_and_transposes_are_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], name="pad"),
        helper.make_node("MatMul", ["p", "w"], ["y"], name="fc"),
    ]
    weights = {"pads": np.array([0, 1, 0, 0, 1, 0]), "w": np.ones((64, 64), np.float32)}
    types = {"x": (TensorProto.FLOAT, 1, 30, 64)}, {"y": (TensorProto.FLOAT, 1, 32, 64)}
    plan = plan_file(save_graph(tmp_path / "p.onnx", nodes, *types, weights))
    assert [layer.label for layer in plan.movement_layers] == ["pad"]


def test_a_node_that_the_parser_refuses_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["frames"], ["t"], name="embed/Transpose"),
        helper.make_node("Cast", ["t"], ["y"], name="embed/Cast", to=TensorProto.FLOAT),
    ]
    types = {"frames": (TensorProto.UINT8, 2, 4)}, {"y": (TensorProto.FLOAT, 4, 2)}
    with pytest.raises(PlanError, match=r"embed/Transpose \(Transpose\).*UInt8") as refused:
        plan_file(save_graph(tmp_path / "u.onnx", nodes, *types))
    assert "\n" not in str(refused.value)


def test_a_network_that_does_not_compile_says_why(tmp_path: Path) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="top")
    types = {"x": (TensorProto.FLOAT, 5000)}, {"y": (TensorProto.FLOAT, 4000), "i": (TensorProto.INT64, 4000)}
    with pytest.raises(PlanError, match=r"top.*3840"):
        plan_file(save_graph(tmp_path / "k.onnx", [node], *types, {"k": np.array([4000])}))


def test_the_plan_of_dualformer_accounts_for_all_its_work(exported: Path) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one")
    config = CONFIGS[ModelSize.N]
    plan = plan_file(exported / "dualformer-n.fp32.onnx")
    assert plan.attentions == sum(config.depths)
    assert plan.graph_macs == pytest.approx(count_macs(config), rel=0.01)  # folding adds products with zeros
    assert plan.unattributed_macs < 1e-3 * plan.graph_macs
    assert not plan.uncounted_nodes
    assert LayerKind.OTHER not in plan.layers_by_kind
