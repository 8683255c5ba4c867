"""The exported file: one self-contained, valid, static ONNX graph with the network's own names."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dualexport.clips.synthetic import moving_patterns
from dualexport.core.choices import Graph, InputType, Precision
from dualexport.core.errors import ExportError
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner


@pytest.fixture(scope="module")
def model(exported: Path) -> onnx.ModelProto:
    """The folded FP32 graph."""
    return onnx.load(exported / "dualformer-n.fp32.onnx")


def test_input_and_output_are_static(model: onnx.ModelProto) -> None:
    shapes = {
        value.name: [extent.dim_value for extent in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"clip": [1, 3, 16, 224, 224], "logits": [1, 400]}


def test_opset_is_within_reach_of_tensorrt_10(model: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]


def test_every_tensor_has_a_static_shape_of_at_most_8_dimensions(model: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = [value.type.tensor_type.shape.dim for value in inferred.graph.value_info]
    assert len(shapes) >= len(model.graph.node) - 1
    assert all(dim.HasField("dim_value") for shape in shapes for dim in shape)
    assert max(len(shape) for shape in shapes) <= 8


def test_weights_are_inside_the_file_once(exported: Path, model: onnx.ModelProto, nano: DualFormer) -> None:
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    parameters = sum(value.numel() * value.element_size() for value in nano.parameters())
    assert (exported / "dualformer-n.fp32.onnx").stat().st_size < 1.05 * parameters


def test_nodes_are_named_after_the_networks_modules(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for name in ("blocks.1.0.attn.qkv/MatMul", "blocks.3.1.mlp.fc2/Gemm", "pos_block.2/Conv"):
        assert name in names
    assert all("/" in name for name in names)


def test_the_file_tells_nothing_of_the_exporting_machine(exported: Path) -> None:
    content = (exported / "dualformer-n.fp32.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b"dualformer.py" not in content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (OnnxOptions(Graph.PLAIN, Precision.FP32, batch=2, opset=18), 1e-4),
        (OnnxOptions(Graph.FOLDED, Precision.FP32, batch=2, opset=18), 1e-4),
        (OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8, batch=2), 2e-2),
        (OnnxOptions(Graph.PLAIN, Precision.FP16), 2e-2),
    ],
    ids=lambda value: "-".join(map(str, astuple(value))) if isinstance(value, OnnxOptions) else None,
)
def test_every_form_computes_the_network(
    tmp_path: Path, nano: DualFormer, options: OnnxOptions, tolerance: float
) -> None:
    artifact = export_onnx(nano, tmp_path / "nano.onnx", options, parent=None)
    assert onnx.load(artifact.path).opset_import[0].version == options.opset
    clips = moving_patterns(options.batch, nano.config.preprocessing)
    inputs, expected = (
        np.stack([clip.network_input(dtype) for clip in clips]) for dtype in (options.input_type.value, "float32")
    )
    with torch.inference_mode(), OnnxRunner(artifact.path) as runner:
        logits = nano(torch.from_numpy(expected)).numpy()
        assert runner.inputs == artifact.inputs
        assert runner.outputs == artifact.outputs
        np.testing.assert_allclose(runner.infer({"clip": inputs})["logits"], logits, rtol=0, atol=tolerance)


def test_the_plain_graph_takes_no_raw_frames(tmp_path: Path, nano: DualFormer) -> None:
    options = OnnxOptions(Graph.PLAIN, Precision.FP32, InputType.UINT8)
    with pytest.raises(ExportError, match="plain graph takes float32 clips, not uint8"):
        export_onnx(nano, tmp_path / "nano.onnx", options, parent=None)
