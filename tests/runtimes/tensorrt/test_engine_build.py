"""Engines that are really built, by the TensorRT that needs no GPU: what is written, recorded and refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dualexport.core.choices import Compatibility, InputType, ModelSize, Precision
from dualexport.core.errors import EngineError, PlanError
from dualexport.core.files import hash_file
from dualexport.core.manifest import read_manifest
from dualexport.core.types import Artifact
from dualexport.core.versions import agree
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.graphs.describe import describe_onnx
from dualexport.graphs.work import read_graph_work
from dualexport.runtimes.machine.host import read_host
from dualexport.runtimes.tensorrt.cuda import GpuDevice
from dualexport.runtimes.tensorrt.engine_file import (
    EngineOptions,
    EngineRecord,
    read_engine_version,
    read_record,
)
from onnx import TensorProto, helper
from support.engines import quantize_products, require_builder

ORIN = GpuDevice("Orin", "8.7", 8 << 30, "12.6")


def build(source: Artifact, folder: Path, options: EngineOptions | None = None, **place: object) -> Artifact:
    require_builder()
    from dualexport.runtimes.tensorrt.build import BuildPlace, build_engine

    return build_engine(source, "net", BuildPlace(folder, **place), options or EngineOptions())  # type: ignore[arg-type]


def test_an_engine_is_written_with_the_proof_of_its_precision(exported: Path, tmp_path: Path) -> None:
    source = describe_onnx(exported / "dualformer-n.fp16.onnx")
    told: list[str] = []
    engine = build(source, tmp_path, tell=told.append)
    record = read_record(engine)
    version, for_rtx = read_engine_version(engine.path)
    assert engine.path.name.startswith("net.fp16.")
    assert engine.path.suffix == ".engine"
    assert agree(record.tensorrt, version)
    assert record.for_rtx == for_rtx
    assert (engine.parent, engine.sha256) == (source.sha256, hash_file(engine.path))
    assert record.size_bytes == engine.path.stat().st_size
    assert record.fp16_share > 0.999
    assert (record.attentions, record.fused_attentions) == (8, 8)
    assert (engine.inputs, engine.outputs) == (source.inputs, source.outputs)
    assert len(told) <= 6

    (cache,) = tmp_path.glob("timing.*.cache")
    content = cache.read_bytes()
    again = build(source, tmp_path)
    assert again.path == engine.path
    assert len(cache.read_bytes()) >= len(content)
    assert not list(tmp_path.glob(".*"))


def test_an_int8_graph_gives_an_int8_engine(exported: Path, tmp_path: Path) -> None:
    source = quantize_products(exported / "dualformer-n.fp16.onnx", tmp_path / "q.onnx")
    assert source.precision is Precision.INT8
    record = read_record(build(source, tmp_path))
    asked = read_graph_work(source.path).shares["int8"]
    assert record.int8_share == pytest.approx(asked, abs=1e-3)
    assert asked > 0.4
    assert record.int8_share + record.fp16_share > 0.99
    assert record.fused_attentions == 8


def test_token_selection_builds(size_t: Path, tmp_path: Path) -> None:
    source = describe_onnx(read_manifest(size_t).artifact_of("onnx", Precision.FP16).path)
    assert read_record(build(source, tmp_path)).fp16_share > 0.99


@pytest.mark.slow
def test_the_published_size_t_builds(tmp_path: Path) -> None:
    require_builder()
    network = build_random_network(ModelSize.T, 0)
    options = OnnxOptions(precision=Precision.FP16, input_type=InputType.UINT8)
    source = export_onnx(network, tmp_path / "t.onnx", options, parent=None)
    record = read_record(build(source, tmp_path))
    assert (record.fp16_share > 0.99, record.fused_attentions) == (True, 18)


def test_a_precision_that_the_engine_does_not_have_is_refused(exported: Path, tmp_path: Path) -> None:
    claimed = dataclasses.replace(describe_onnx(exported / "dualformer-n.fp32.onnx"), precision=Precision.FP16)
    with pytest.raises(EngineError, match=r"asks for no fp16 at all: 100\.0% fp32"):
        build(claimed, tmp_path)
    with pytest.raises(EngineError, match="asks for no int8"):
        build(dataclasses.replace(claimed, precision=Precision.INT8), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_be_read_is_told_and_the_engine_kept(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_builder()
    from dualexport.runtimes.tensorrt import build as engine_build

    def refuse(*_: object) -> None:
        raise PlanError("unknown tensor type in the plan: FP6", fix="")

    monkeypatch.setattr(engine_build, "make_plan", refuse)
    told: list[str] = []
    engine = build(describe_onnx(exported / "dualformer-n.fp16.onnx"), tmp_path, tell=told.append)
    assert "does not describe the engine (unknown tensor type in the plan: FP6)" in told[0]
    assert (read_record(engine).unknown_share, read_record(engine).fp16_share) == (1.0, 0.0)


def test_an_engine_that_a_check_refuses_gets_no_name(exported: Path, tmp_path: Path) -> None:
    def refuse(engine: Artifact) -> None:
        assert engine.path.stat().st_size > 0
        raise EngineError("wrong numbers", fix="")

    with pytest.raises(EngineError, match="wrong numbers"):
        build(describe_onnx(exported / "dualformer-n.fp16.onnx"), tmp_path, check=refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_compile_leaves_nothing(tmp_path: Path) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="top")
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (5000,))]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, (4000,)),
        helper.make_tensor_value_info("i", TensorProto.INT64, (4000,)),
    ]
    count = onnx.numpy_helper.from_array(np.array([4000]), "k")
    graph = helper.make_graph([node], "graph", values, outputs, [count])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "k.onnx")
    with pytest.raises(PlanError, match=r"top.*3840"):
        build(describe_onnx(tmp_path / "k.onnx"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(compatible=Compatibility.AMPERE), "no --compatible"),
        (EngineOptions(version_compatible=True), "no --version-compatible"),
        (EngineOptions(targets=("8.6",)), "--target needs the module tensorrt_rtx"),
    ],
)
def test_what_tensorrt_for_rtx_cannot_is_refused_before_the_work(
    exported: Path, tmp_path: Path, options: EngineOptions, words: str
) -> None:
    require_builder()
    from dualexport.runtimes.tensorrt.library import is_for_rtx

    if not is_for_rtx():
        pytest.skip("needs the TensorRT of scripts/install-cpu-tensorrt; another one is installed")
    with pytest.raises(EngineError, match=words):
        build(describe_onnx(exported / "dualformer-n.fp16.onnx"), tmp_path, options)


@pytest.fixture
def tensorrt_proper(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the installed TensorRT pass for a release of TensorRT itself."""
    require_builder()
    from dualexport.runtimes.tensorrt import build as engine_build
    from dualexport.runtimes.tensorrt import configure as engine_config
    from dualexport.runtimes.tensorrt import library as tensorrt_library

    def pretend(version: str) -> None:
        for module in (engine_build, engine_config, tensorrt_library):
            monkeypatch.setattr(module, "is_for_rtx", lambda: False)
        monkeypatch.setattr(engine_build, "library_version", lambda: version)

    return pretend


def test_on_a_device_its_name_and_versions_are_recorded(
    exported: Path, tmp_path: Path, tensorrt_proper: Callable[[str], None]
) -> None:
    tensorrt_proper("10.3.0")
    release = tmp_path / "root" / "etc" / "nv_tegra_release"
    release.parent.mkdir(parents=True)
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ...\n")
    source = describe_onnx(exported / "dualformer-n.fp16.onnx")
    options = EngineOptions(workspace_gib=1, optimization_level=2)
    engine = build(source, tmp_path / "out", options, device=ORIN, host=read_host(tmp_path / "root"))
    record = read_record(engine)
    assert engine.path.name == "net.fp16.sm87-trt10.3.engine"
    assert (tmp_path / "out" / "timing.sm87-trt10.3.cache").is_file()
    assert (record.gpu, record.compute_capability, record.cuda) == ("Orin", "8.7", "12.6")
    assert (record.l4t, record.jetpack) == ("36.4.3", "6.2")
    assert (record.workspace_gib, record.optimization_level) == (1, 2)
    assert EngineRecord(**record.document()) == record  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "device", "options", "words"),
    [
        ("8.6.2", ORIN, EngineOptions(), r"TensorRT 8\.6\.2 is installed, 10\.0 or newer is needed"),
        ("10.3.0", None, EngineOptions(), "needs the GPU"),
        ("10.3.0", ORIN, EngineOptions(workspace_gib=16), r"16 GiB needs more than the 8\.0 GiB of Orin"),
        ("10.3.0", ORIN, EngineOptions(targets=("8.6",)), "--target is for TensorRT for RTX"),
    ],
)
def test_what_a_device_cannot_is_refused_before_the_work(
    tensorrt_proper: Callable[[str], None],
    tmp_path: Path,
    version: str,
    device: GpuDevice | None,
    options: EngineOptions,
    words: str,
) -> None:
    tensorrt_proper(version)
    source = Artifact("onnx", Precision.FP16, None, tmp_path / "never-read.onnx", "", (), (), None)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=words) as refused:
        build(source, tmp_path, options, device=device)
    assert refused.value.fix


def test_too_little_memory_says_what_was_asked_for_and_what_there_is(
    exported: Path, tmp_path: Path, tensorrt_proper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorrt_proper("10.3.0")
    from dualexport.runtimes.tensorrt import build as engine_build

    def run_out(_path: Path, logger: object, *_: object, **__: object) -> None:
        logger.errors.append("Requested amount of GPU memory (9663676416 bytes) could not be allocated: out of memory")  # type: ignore[attr-defined]
        raise PlanError("cannot compile it", fix="")

    monkeypatch.setattr(engine_build, "compile_engine", run_out)
    with pytest.raises(EngineError, match=r"9\.0 GiB were asked for\), Orin has 8\.0 GiB"):
        build(describe_onnx(exported / "dualformer-n.fp16.onnx"), tmp_path, device=ORIN)


def test_warnings_become_a_short_list() -> None:
    require_builder()
    from dualexport.runtimes.tensorrt.messages import list_warnings

    overflow = [f"Weights [name=fc{index}] overflow in half: {index} values" for index in range(300)]
    lines = list_warnings([*overflow, "Using default stream", "Missing scale, falling back to FP16"])
    assert lines[0] == "TensorRT warns: Weights [name=fc0] overflow in half: 0 values (300 such warnings)"
    assert len(lines) == 3
    assert lines[-1] == "TensorRT warns of 1 other things: --verbose lists them"
    assert list_warnings([]) == ()


@pytest.mark.parametrize("content", [b"", b"vtrt", b"not an engine, but long enough to hold a header"])
def test_a_file_that_is_no_engine_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="is not a TensorRT engine"):
        read_engine_version(path)


@pytest.mark.slow
def test_without_tensorrt_the_install_line_is_named(exported: Path) -> None:
    code = (
        "import sys; sys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None; from dualexport.cli import main;"
        f"main(['trt', {str(exported)!r}, '--fp16'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    error, fix = result.stderr.splitlines()[-2:]
    assert result.returncode == 1
    assert error == "error: TensorRT is not installed (no module tensorrt or tensorrt_rtx)"
    assert fix.startswith('fix: pip install "dualexport[tensorrt]", on a Jetson apt-get install')


@pytest.mark.slow
def test_torch_is_not_needed_to_read_a_record() -> None:
    assert torch.__version__  # the suite has it; the record's module must not
    code = (
        "import sys, dualexport.runtimes.tensorrt.engine_file; print('torch' in sys.modules, 'tensorrt' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "False False\n"
