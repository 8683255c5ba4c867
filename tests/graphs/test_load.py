"""The only loader of ONNX files takes sound ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dualexport.core.errors import GraphError
from dualexport.graphs.load import load_graph
from onnx import TensorProto, helper, numpy_helper


@pytest.mark.parametrize("name", [b"a node's name", b"tensor y", b"weight w", b"key of metadata"])
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    nodes = [helper.make_node("Mul", ["clip", "weight w"], ["tensor y"], name="a node's name")]
    clip, result = (helper.make_tensor_value_info(one, TensorProto.FLOAT, (1, 3)) for one in ("clip", "tensor y"))
    weights = [numpy_helper.from_array(np.ones((1, 3), np.float32), "weight w")]
    model = helper.make_model(helper.make_graph(nodes, "g", [clip], [result], weights), ir_version=9)
    helper.set_model_props(model, {"key of metadata": "v"})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    load_graph(path)
    path.write_bytes(model.SerializeToString().replace(name, b"\xff" * len(name)))
    with pytest.raises(GraphError, match="UTF-8"):
        load_graph(path)
