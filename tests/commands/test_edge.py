"""A device has no PyTorch and no exporting libraries, but an engine, and something to hold it against."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dualexport.core.types import TensorSpec
from dualexport.runtimes.onnx_runner import OnnxRunner
from dualexport.runtimes.tensorrt.load import DeviceLayer
from support.cli import assert_refused, run
from support.engines import require_builder

EXPORTING = ("torch", "onnxsim", "onnxscript", "onnx_ir")
WITHOUT = (
    f"import sys; sys.modules.update(dict.fromkeys({EXPORTING!r}));from dualexport.cli import main; main(sys.argv[1:])"
)


@pytest.fixture
def device_folder(exported: Path, tmp_path: Path) -> Path:
    """An exported folder as it came to the device."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


@pytest.mark.slow
def test_a_device_needs_no_pytorch(device_folder: Path, video: Path) -> None:
    require_builder()
    commands = (
        ("trt", device_folder, "--fp16"),
        ("plan", device_folder / "dualformer-n.fp16.onnx"),
        ("lint", device_folder / "dualformer-n.fp16.onnx"),
        ("predict", device_folder, video, "--views", "1"),
        ("verify", device_folder, "--clips", video, "--runtime", "onnx", "--reference", "onnx"),
        ("bench", device_folder, "--runtime", "onnx", "--seconds", "0.2"),
    )
    for command in commands:
        line = [sys.executable, "-c", WITHOUT, *map(str, command)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    line = [sys.executable, "-c", WITHOUT, "verify", str(device_folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "without PyTorch pass --reference expected (in a bundle) or --reference onnx" in done.stderr


@pytest.fixture
def fake_gpu(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeviceLayer]:
    """Puts a device into the machine that computes engines with ONNX Runtime."""
    require_builder()
    from dualexport.runtimes.tensorrt import configure as engine_config
    from dualexport.runtimes.tensorrt import library as tensorrt_library
    from dualexport.runtimes.tensorrt import load as tensorrt_engine
    from dualexport.runtimes.tensorrt import runner as tensorrt_runner
    from support.fake_gpu import FakeEngine, FakeRuntime, make_layer

    bindings = (TensorSpec("clip", "float32", (1, 3, 16, 224, 224)),), (TensorSpec("logits", "float32", (1, 400)),)
    network = OnnxRunner(exported / "dualformer-n.fp32.onnx")  # on a CPU several times faster than FP16

    def plug_in(capability: tuple[int, int] = (8, 9), error: float = 0.0) -> DeviceLayer:
        engine = FakeEngine(
            FakeRuntime(capability), bindings, lambda feeds: {"logits": network.infer(feeds)["logits"] + error}
        )
        layer = make_layer(engine, tensorrt_library.library_version(), for_rtx=tensorrt_library.is_for_rtx())
        load = dataclasses.replace(layer, load=lambda *_: tensorrt_engine.LoadedEngine(engine, str))
        monkeypatch.setattr(engine_config, "open_cuda", lambda: layer.cuda)
        for module in (tensorrt_engine, tensorrt_runner):
            monkeypatch.setattr(module, "installed_layer", lambda: load)
        return layer

    return plug_in


@pytest.mark.slow
def test_an_engine_is_verified_and_classifies(
    device_folder: Path, video: Path, fake_gpu: Callable[..., DeviceLayer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "trt", device_folder, "--fp16")[0] == 0
    code, out, err = run(capsys, "verify", device_folder, "--reference", "onnx")
    assert (code, "FAIL" in out) == (1, True)
    assert ".engine did not run: " in err
    assert "leave them out with --runtime onnx" in err
    fake_gpu()
    against = ("--runtime", "tensorrt", "--reference", "onnx", "--clips", video)
    code, out, err = run(capsys, "verify", device_folder, *against, "--json")
    document = json.loads(out)
    (report,) = document["reports"]
    assert (code, report["artifact"].endswith(".engine")) == (0, True)
    assert report["runner"].startswith("TensorRT")
    assert document["reference"]["name"].startswith("ONNX Runtime")
    assert "not the trained network" in err

    code, out, _ = run(capsys, "predict", device_folder, video, "--runtime", "tensorrt", "--cuda-graph", "--json")
    classified = json.loads(out)
    _, out, _ = run(capsys, "predict", device_folder, video, "--json")
    expected = json.loads(out)["predictions"][0]["top"][0]["index"]
    assert (code, classified["predictions"][0]["top"][0]["index"]) == (0, expected)
    assert classified["artifact"].endswith(".engine")

    fake_gpu(error=np.float32(3.0))
    code, _, err = run(capsys, "verify", device_folder, *against)
    assert code == 1
    assert "differs from ONNX Runtime" in err


def test_an_engine_for_another_gpu_is_not_loaded(
    device_folder: Path, video: Path, fake_gpu: Callable[..., DeviceLayer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(run(capsys, "predict", device_folder, video, "--runtime", "tensorrt"), "lists no tensorrt artifact")
    assert run(capsys, "trt", device_folder, "--fp16")[0] == 0
    fake_gpu(capability=(7, 5))
    result = run(capsys, "predict", device_folder, video, "--runtime", "tensorrt")
    assert_refused(result, "on compute capability 7.5")
    assert f"fix: build it here: `dualexport trt {device_folder} --fp16`" in result[2]


def test_torch_classifies_too(device_folder: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "predict", device_folder, video, "--runtime", "torch", "--views", 1, "--json")
    assert (code, json.loads(out)["artifact"].startswith("PyTorch")) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [("--runtime", "torch"), ("--reference", "expected", "--clips", "x.mp4"), ("--runtime", "other")],
)
def test_wrong_usage_of_verify_exits_2(
    exported: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "verify", exported, *arguments)[0] == 2


def test_nothing_to_compare_is_an_error(device_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((device_folder / "manifest.json").read_text())
    manifest["artifacts"] = manifest["artifacts"][:1]
    (device_folder / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(run(capsys, "verify", device_folder, "--reference", "onnx"), "nothing is left to compare")
    assert_refused(run(capsys, "verify", device_folder, "--reference", "expected"), "expected.npz: no such file")


@pytest.mark.slow
def test_a_bundle_goes_to_a_device_and_is_verified_there(
    device_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_gpu: Callable[..., DeviceLayer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed = tmp_path / "dualformer-n.tar.gz"
    (device_folder / "calibration.json").write_text("{}")
    assert run(capsys, "bundle", device_folder, "-o", packed, "--reference", "onnx")[0] == 0
    device = tmp_path / "device"
    device.mkdir()
    monkeypatch.chdir(device)
    code, out, err = run(capsys, "trt", packed, "--json")
    document = json.loads(out)
    assert (code, document["expected"]) == (0, None)
    assert "verify dualformer-n --runtime tensorrt --reference expected" in err
    engine = Path(document["engine"]["path"])
    assert {path.name for path in Path("dualformer-n").iterdir()} >= {engine.name, "calibration.json", "README.txt"}

    fake_gpu()
    code, out, err = run(capsys, "trt", packed, "--json")  # a second time: the folder is there already
    assert (code, json.loads(out)["expected"]["clips"]) == (0, 2)
    assert "not compared" not in err
    expected = ("verify", "dualformer-n", "--runtime", "tensorrt", "--reference", "expected")
    code, out, _ = run(capsys, *expected, "--json")
    assert (code, json.loads(out)["reports"][0]["clips"]) == (0, 2)

    engine.unlink()
    fake_gpu(error=3.0)
    assert_refused(run(capsys, "trt", packed), "differs from expected outputs of ONNX Runtime")
    assert not engine.exists()
    assert sorted(path.name for path in device.iterdir()) == ["dualformer-n"]


def test_a_bundle_of_nothing_leaves_nothing(
    device_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "out" / "x.tar.gz"
    result = run(capsys, "bundle", device_folder, "-o", packed, "--clips", tmp_path / "gone.mp4")
    assert_refused(result, "gone.mp4")
    assert not packed.parent.exists()
    assert run(capsys, "bundle", device_folder, "-o", tmp_path / "x.zip")[0] == 2
