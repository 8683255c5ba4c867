"""One contract for all runners: names, shapes, and the numbers of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from dualexport.core.choices import Provider
from dualexport.core.errors import MissingDependencyError, RunnerError
from dualexport.core.runner import TimedRunner
from dualexport.core.types import TensorSpec
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.graphs.describe import describe_onnx
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.runtimes.torch_runner import TorchRunner
from golden import recipe
from support.engines import NEEDS_TENSORRT

INPUTS = (TensorSpec("clip", "float32", (1, 3, 16, 224, 224)),)
OUTPUTS = (TensorSpec("logits", "float32", (1, 400)),)
FILE = "dualformer-n.fp32.onnx"
TOLERANCES = {"tensorrt": 0.02, "onnx-tensorrt-rtx": 0.02, "onnx-cuda": 0.02}  # products in TF32; elsewhere 1e-4


def open_engine(exported: Path, folder: Path, *, cuda_graph: bool) -> TimedRunner:
    """The engine of the FP32 file, built here and run on the GPU that is here."""
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)
    from dualexport.runtimes.tensorrt.build import BuildPlace, build_engine
    from dualexport.runtimes.tensorrt.cuda import open_cuda
    from dualexport.runtimes.tensorrt.engine_file import EngineOptions, read_record
    from dualexport.runtimes.tensorrt.runner import TensorRTRunner

    place = BuildPlace(folder, device=open_cuda().device())
    engine = build_engine(describe_onnx(exported / FILE), "n", place, EngineOptions())
    return TensorRTRunner(engine.path, read_record(engine), cuda_graph=cuda_graph)


def open_fake_engine(exported: Path, folder: Path, *, cuda_graph: bool) -> TimedRunner:
    """The TensorRT runner over a fake device, on which ONNX Runtime computes the network."""
    pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)
    from dualexport.runtimes.tensorrt.runner import TensorRTRunner
    from support.fake_gpu import FAKE_ENGINE, FakeEngine, FakeRuntime, make_layer

    (folder / "n.engine").write_bytes(FAKE_ENGINE)
    engine = FakeEngine(FakeRuntime(), (INPUTS, OUTPUTS), OnnxRunner(exported / FILE).infer)
    return TensorRTRunner(folder / "n.engine", cuda_graph=cuda_graph, layer=make_layer(engine))


MAKERS: dict[str, Callable[[DualFormer, Path, Path], TimedRunner]] = {
    "torch": lambda nano, _, __: TorchRunner(nano, INPUTS, OUTPUTS),
    "onnx": lambda _, exported, __: OnnxRunner(exported / FILE),
    "onnx-cuda": lambda _, exported, __: OnnxRunner(exported / FILE, Provider.CUDA),
    "onnx-tensorrt-rtx": lambda _, exported, __: OnnxRunner(exported / FILE, Provider.TENSORRT_RTX),
    "fake-tensorrt": lambda _, exported, folder: open_fake_engine(exported, folder, cuda_graph=False),
    "fake-tensorrt-graph": lambda _, exported, folder: open_fake_engine(exported, folder, cuda_graph=True),
    "tensorrt": lambda _, exported, folder: open_engine(exported, folder, cuda_graph=False),
    "tensorrt-graph": lambda _, exported, folder: open_engine(exported, folder, cuda_graph=True),
}
ON_GPU = {"onnx-cuda", "onnx-tensorrt-rtx", "tensorrt", "tensorrt-graph"}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] if name in ON_GPU else []) for name in MAKERS])
def runner(request: pytest.FixtureRequest, nano: DualFormer, exported: Path, tmp_path: Path) -> Iterator[TimedRunner]:
    try:
        opened = MAKERS[request.param](nano, exported, tmp_path)
    except MissingDependencyError as error:
        pytest.skip(f"needs {error}")
    with opened:
        yield opened


def test_a_runner_computes_the_network(runner: TimedRunner, nano: DualFormer, request: pytest.FixtureRequest) -> None:
    assert (runner.inputs, runner.outputs) == (INPUTS, OUTPUTS)
    assert runner.name
    clip = recipe.clip(5, INPUTS[0].shape)
    with torch.inference_mode():
        expected = nano(torch.from_numpy(clip)).numpy()
    name = request.node.callspec.params["runner"].removesuffix("-graph")
    for _ in range(2):
        outputs = runner.infer({"clip": clip})
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=TOLERANCES.get(name, 1e-4))
    with runner.prepared({"clip": clip}) as run:
        for measured in (run(), run()):
            assert measured is None or measured.compute_ms > 0
    np.testing.assert_array_equal(runner.infer({"clip": clip})["logits"], outputs["logits"])


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(RunnerError, match=r"cannot load net\.onnx"):
        OnnxRunner(path)


@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT_RTX])
def test_a_provider_that_is_not_there_is_never_replaced(exported: Path, provider: Provider) -> None:
    import onnxruntime

    if any(device.ep_name == provider.registered_name for device in onnxruntime.get_ep_devices()):
        pytest.skip(f"{provider.registered_name} is here")
    if provider.registered_name in onnxruntime.get_available_providers():
        pytest.skip(f"{provider.registered_name} is here")
    with pytest.raises(MissingDependencyError, match=provider.registered_name):
        OnnxRunner(exported / FILE, provider)
