"""One contract for all runners: names, shapes, and the numbers of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from dualexport.contracts import Runner, RunnerError, TensorSpec
from dualexport.exporter.dualformer import DualFormer
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.runtimes.torch_runner import TorchRunner
from golden import recipe

INPUTS = (TensorSpec("clip", "float32", (1, 3, 16, 224, 224)),)
OUTPUTS = (TensorSpec("logits", "float32", (1, 400)),)


@pytest.fixture(params=["torch", "onnx"])
def runner(request: pytest.FixtureRequest, nano: DualFormer, exported: Path) -> Iterator[Runner]:
    make = {
        "torch": lambda: TorchRunner(nano, INPUTS, OUTPUTS),
        "onnx": lambda: OnnxRunner(exported / "dualformer-n.fp32.onnx"),
    }
    with make[request.param]() as opened:
        yield opened


def test_a_runner_computes_the_network(runner: Runner, nano: DualFormer) -> None:
    assert (runner.inputs, runner.outputs) == (INPUTS, OUTPUTS)
    assert runner.name
    clip = recipe.clip(5, INPUTS[0].shape)
    with torch.inference_mode():
        expected = nano(torch.from_numpy(clip)).numpy()
    for _ in range(2):
        outputs = runner.infer({"clip": clip})
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(RunnerError, match=r"cannot load net\.onnx"):
        OnnxRunner(path)
