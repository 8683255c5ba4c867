"""Layers placed by measured times, over a fake GPU that is told how long each kernel takes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from dualexport.core.choices import DeviceName, Place, Precision
from dualexport.core.errors import CudaError, EngineError, PlanError, QuantizationError
from dualexport.core.manifest import read_manifest
from dualexport.core.reporter import Reporter
from dualexport.core.types import Artifact, TensorSpec
from dualexport.graphs.describe import describe_onnx
from support.cli import assert_refused, run
from support.engines import NEEDS_TENSORRT

pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)

from dualexport.calibration.linear_layers import find_layers
from dualexport.calibration.placement import Placement
from dualexport.graphs.load import load_graph
from dualexport.pipeline.placement import Target, place_layers
from dualexport.pipeline.plan import plan_onnx
from dualexport.pipeline.stage_times import EstimatedTimes, MeasuredTimes
from dualexport.runtimes.latency import Timing
from dualexport.runtimes.plans.devices import DEVICES, estimate
from dualexport.runtimes.plans.parse import Compilation
from dualexport.runtimes.tensorrt import gpu_here
from dualexport.runtimes.tensorrt.compile import CompiledEngine
from dualexport.runtimes.tensorrt.cuda import Cuda
from dualexport.runtimes.tensorrt.gpu_here import GpuHere
from dualexport.runtimes.tensorrt.library import is_for_rtx, library_version
from dualexport.runtimes.tensorrt.load import DeviceLayer, LoadedEngine
from support.fake_gpu import FAKE_ENGINE, FakeEngine, FakeRuntime

HEADER = FAKE_ENGINE[:28]  # of TensorRT 10.3.0
HERE = Target(Place.DEVICE)
PRODUCT = re.compile(r"blocks\..*\.(qkv|kv|q|proj|fc1|fc2)/(?:MatMul|Gemm)")
OTHER_MS = 10.0  # of what is no linear layer

Kernels = list[tuple[str, float]]


@dataclass
class FakeGpu:
    """A GPU on which a linear layer takes 1 ms, in 8 bits what `eight_ms` says of its kind.

    `rename` is what the profiler calls a kernel, `overhead_ms` what an engine with 8 bits takes besides its kernels.
    """

    base: Artifact
    eight_ms: Callable[[str], float]
    rename: Callable[[str], str] = str
    overhead_ms: float = 0.0
    capability: tuple[int, int] = (8, 9)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this be the GPU of this machine, and TensorRT build for it."""
        runtime = FakeRuntime(self.capability)
        layer = DeviceLayer(Cuda(runtime), lambda data, _: self._load(runtime, data), "10.3.0", for_rtx=False)
        timing = Timing(1.0, 3, 0.5, 0.0, 0.0, clock=lambda: runtime.host_ms / 1e3)
        made = GpuHere.__init__
        monkeypatch.setattr(GpuHere, "__init__", lambda gpu, folder: made(gpu, folder, layer, timing))
        monkeypatch.setattr(gpu_here, "compile_engine", lambda path, *_, **__: self._compile(path))

    def _compile(self, path: Path) -> CompiledEngine:
        """Describe an engine as TensorRT's inspector does; its bytes are a header and its kernels' times."""
        graph = onnx.load(path).graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        kernels: Kernels = [("other", OTHER_MS)]
        entries = [{"Name": "other", "LayerType": "kgen", "Metadata": "[ONNX Layer: Softmax]"}]
        for node in graph.node:
            if found := PRODUCT.fullmatch(node.name):
                is_eight = makers.get(node.input[1]) == "DequantizeLinear"
                kernels.append((f"kernel {len(kernels)}", self.eight_ms(found[1]) if is_eight else 1.0))
                origin = f"[ONNX Layer: {node.name}]"
                entries.append({"Name": kernels[-1][0], "LayerType": "gemm", "Metadata": origin})
        is_eight = "DequantizeLinear" in makers.values()
        content = json.dumps([[(self.rename(name), time) for name, time in kernels], is_eight * self.overhead_ms])
        compilation = Compilation("", json.dumps({"Layers": entries}), "TensorRT 10.3.0")
        return CompiledEngine(
            HEADER + content.encode(), compilation, (), SimpleNamespace(get_timing_cache=lambda: None)
        )

    def _load(self, runtime: FakeRuntime, data: bytes) -> LoadedEngine:
        kernels, overhead_ms = json.loads(data[len(HEADER) :])
        engine = make_engine(self.base, runtime, kernels)
        engine.overhead_ms = overhead_ms
        return LoadedEngine(engine, lambda: "")


def make_engine(base: Artifact, runtime: FakeRuntime, kernels: Kernels) -> FakeEngine:
    specs = tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in base.inputs)
    logits = TensorSpec("logits", "float32", (specs[0].shape[0], 4))
    return FakeEngine(
        runtime, (specs, (logits,)), lambda _: {"logits": np.zeros(logits.shape, np.float32)}, layers=tuple(kernels)
    )


@pytest.fixture
def half(exported: Path, tmp_path: Path) -> Artifact:
    """The FP16 file, in a folder of its own, which gets the timings of kernels."""
    return describe_onnx(Path(shutil.copy(exported / "dualformer-n.fp16.onnx", tmp_path)))


def place(base: Artifact) -> Placement:
    allowed = {layer.name for layer in find_layers(load_graph(base.path))}
    return place_layers(base, allowed, HERE, Precision.INT8, Reporter())


def test_layers_are_placed_by_what_they_take_here(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = {"fc1": 0.5, "fc2": 0.25, "proj": 0.4}  # unlike every device of the table, where proj gains nothing
    FakeGpu(half, lambda kind: 1.0 - saved.get(kind, -0.5)).install(monkeypatch)
    placement = place(half)
    kinds = [name.rpartition(".")[2] for name in placement.layers]
    assert set(kinds) == set(saved)
    assert placement.gpu == "Fake"
    assert placement.rest_ms is not None
    assert placement.rest_ms == pytest.approx(OTHER_MS + len(find_layers(load_graph(half.path))))
    assert placement.placed_ms == pytest.approx(placement.rest_ms - sum(saved[kind] for kind in kinds))
    gains = {gain.group: gain for gain in placement.gains}
    assert gains["stage 2: proj"].chosen
    assert not gains["stage 2: qkv"].chosen
    assert gains["stage 2: qkv"].saved_ms < 0


def test_what_saves_less_than_timings_differ_by_stays_fp16(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(half, lambda kind: {"fc1": 0.5, "qkv": 0.99}.get(kind, 1.0)).install(monkeypatch)
    assert {name.rpartition(".")[2] for name in place(half).layers} == {"fc1", "fc2"}  # a group


def test_a_choice_that_as_a_whole_is_no_faster_is_refused(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(half, lambda _: 0.9, overhead_ms=50.0).install(monkeypatch)
    with pytest.raises(QuantizationError, match=r"do not pay on this Fake: 9\d\.\d00 ms measured.* 45\.000 ms without"):
        place(half)


def test_where_no_layer_pays_here_none_is_placed(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(half, lambda _: 1.001).install(monkeypatch)
    with pytest.raises(QuantizationError, match=r"no linear layer is worth 8 bits there: 45\.000 ms"):
        place(half)


def test_times_of_unknown_kernels_decide_nothing(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(half, lambda _: 0.5, rename=lambda name: f"other name of {name}").install(monkeypatch)
    with pytest.raises(PlanError, match=r"times layers that its engine inspector does not name: other name of other"):
        place(half)


def test_eight_bits_that_the_gpu_does_not_have_are_refused(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(half, lambda _: 0.5, capability=(8, 7)).install(monkeypatch)
    HERE.require(Precision.INT8)
    with pytest.raises(EngineError, match=r"Fake \(compute capability 8\.7\) has no FP8"):
        HERE.require(Precision.FP8)


def test_a_gpu_that_is_lost_while_it_is_measured_ends_it(half: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(half, lambda _: 0.5)
    gpu.install(monkeypatch)
    load = gpu._load

    def load_and_lose(runtime: FakeRuntime, data: bytes) -> LoadedEngine:
        loaded = load(runtime, data)
        runtime.fail_at = ("cudaStreamSynchronize", runtime.calls["cudaStreamSynchronize"] + 3)
        return loaded

    monkeypatch.setattr(gpu, "_load", load_and_lose)
    with pytest.raises(CudaError):
        place(half)


def test_stages_take_what_their_layers_take(half: Artifact, tmp_path: Path) -> None:
    """Compiled for real: a GPU that takes for each kernel what is estimated has the estimate's times of stages."""
    device = DeviceName.AGX_ORIN
    plan = plan_onnx(half.path)
    estimated = list(estimate(plan, DEVICES[device]).layers_ms)
    runtime = FakeRuntime()
    kernels = [(layer.name, time) for layer, time in zip(plan.layers, estimated, strict=True)]
    loaded = LoadedEngine(make_engine(half, runtime, kernels), lambda: "")
    layer = DeviceLayer(Cuda(runtime), lambda *_: loaded, library_version(), is_for_rtx())
    measured = MeasuredTimes(GpuHere(tmp_path, layer, Timing(gpu_warm_up_seconds=0.0)), Reporter())
    assert measured.time_stages(half.path) == pytest.approx(EstimatedTimes(device).time_stages(half.path))
    assert list(tmp_path.glob("timing.*.cache")), "the timings of kernels are kept for the engine to be built"


def test_the_command_says_what_was_measured_and_where(
    ranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(ranged, tmp_path / "dualformer-demo"))
    base = describe_onnx(folder / "dualformer-demo.fp16.onnx")
    gpu = FakeGpu(base, lambda kind: 0.5 if kind == "qkv" else 1.5)
    gpu.install(monkeypatch)
    code, out, _ = run(capsys, "int8", folder, "--device", "here")
    assert code == 0
    assert "Placed by layer times on this Fake" in out
    assert re.search(r"measured 4\d\.\d\d ms instead of 45\.00 in FP16 on Fake: 1\.\d\dx as fast, engines of both", out)
    (made,) = (file for file in read_manifest(folder).artifacts if file.precision is Precision.INT8)
    assert (made.options["place"], made.options["placed_on"]) == ("here", "Fake")
    before = (folder / "manifest.json").read_bytes()
    gpu.eight_ms = lambda _: 2.0
    assert_refused(run(capsys, "int8", folder, "--device", "here"), "no linear layer is worth 8 bits there")
    assert (folder / "manifest.json").read_bytes() == before
