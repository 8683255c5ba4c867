"""Rounding to 8 bits is what ONNX Runtime's QuantizeLinear does, an implementation of its own."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from dualexport.calibration.formats import FORMATS
from dualexport.calibration.gptq import round_weight
from dualexport.core.choices import Precision
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

EIGHT_BITS = [precision for precision in Precision if precision.is_eight_bit]


def make_session(precision: Precision) -> onnxruntime.InferenceSession:
    """x, quantized and dequantized with a scale of one."""
    zero = helper.make_tensor("zero", FORMATS[precision].onnx_type, (), b"\0", raw=True)
    constants = [helper.make_tensor("scale", TensorProto.FLOAT, (), [1.0]), zero]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    given_, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph(nodes, "graph", [given_], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


SESSIONS = {precision: make_session(precision) for precision in EIGHT_BITS}


@given(st.sampled_from(EIGHT_BITS), st.lists(st.floats(-600, 600, width=32), min_size=1))
def test_values_are_rounded_as_onnx_runtime_does(precision: Precision, values: list[float]) -> None:
    eight, x = FORMATS[precision], np.array(values, np.float32)
    expected = np.clip(SESSIONS[precision].run(None, {"x": x})[0], -eight.largest, eight.largest)
    np.testing.assert_array_equal(eight.round(x.astype(np.float64)), expected)


@pytest.mark.parametrize("precision", EIGHT_BITS)
def test_weights_in_either_format_are_close_and_in_its_type(precision: Precision) -> None:
    rng = np.random.default_rng(0)
    weight, rows = rng.normal(size=(16, 32)).astype(np.float32), rng.normal(size=(500, 32))
    rounded = round_weight(weight, rows.T @ rows / len(rows), 1, FORMATS[precision])
    assert rounded.values.dtype == FORMATS[precision].dtype
    error = np.square(rows @ (rounded.dequantized() - weight).T).mean() / np.square(rows @ weight.T).mean()
    assert error < 1e-3
