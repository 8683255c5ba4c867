"""`dualexport fp8` as a user types it: made like INT8, and refused by name where there is no FP8."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from dualexport.clips.synthetic import render_pattern
from dualexport.core.choices import Precision
from dualexport.graphs.describe import describe_onnx
from onnx import TensorProto
from support.cli import assert_refused, run, succeed
from support.engines import require_builder
from support.shared import SharedFolders


@pytest.fixture(scope="module")
def calibrated(exported: Path, shared: SharedFolders) -> Path:
    """A folder with an export of size n, and FP8 of all its linear layers."""

    def calibrate(root: Path) -> None:
        shutil.copytree(exported, root / "dualformer-n")
        np.save(root / "videos.npy", np.stack([render_pattern(seed, 16, 224, 224) for seed in (1, 2)]))
        succeed("fp8", root / "dualformer-n", "--clips", root / "videos.npy", "--place", "all")

    return shared.copy_of("calibrated-fp8", calibrate) / "dualformer-n"


@pytest.fixture
def copy(calibrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated, tmp_path / "dualformer-n"))


def test_the_fp8_file_is_close_to_fp32_and_says_what_it_is(calibrated: Path) -> None:
    path = calibrated / "dualformer-n.fp8.onnx"
    weights = [one for one in onnx.load(path).graph.initializer if one.data_type == TensorProto.FLOAT8E4M3FN]
    assert sum(one.name.endswith("weight_fp8") for one in weights) == 35
    assert describe_onnx(path).precision is Precision.FP8
    assert {one.name for one in calibrated.iterdir()} >= {"calibration.fp8.json", "calibration.fp8.safetensors"}


def test_a_later_run_uses_the_calibration(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copy / "dualformer-n.fp8.onnx").read_bytes()
    result = json.loads(run(capsys, "fp8", copy, "--place", "all", "--json")[1])
    assert (result["reused_calibration"], result["method"]) == (True, "max")
    assert result["work_shares"]["fp8"] > 0.4
    assert (copy / "dualformer-n.fp8.onnx").read_bytes() == before


def test_verify_holds_the_fp8_file_to_its_own_limits(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = copy.parent / "clip.npy"
    np.save(clips, render_pattern(3, 16, 224, 224)[None])
    code, out, _ = run(capsys, "verify", copy, "--clips", clips, "--reference", "onnx", "--against", "fp8", "--json")
    (report,) = json.loads(out)["reports"]
    assert (code, report["precision"]) == (0, "fp8")
    assert report["cosine"] > 0.99


def test_a_compiler_multiplies_in_fp8_what_the_graph_asks_for(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_builder()
    models = [copy / f"dualformer-n.{precision}.onnx" for precision in ("fp16", "fp8")]
    code, out, _ = run(capsys, "plan", *models, "--device", "rtx-4090", "--require", "fp8", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["plans"][1]["work_shares"]["fp8"] > 0.4
    assert document["plans"][1]["fused_attentions"] == 8
    assert "FP8" in document["verdicts"][0]["sentences"][0]
    assert_refused(run(capsys, "plan", *models, "--device", "orin-nano"), "Jetson Orin Nano 8GB (15 W) has no FP8")


@pytest.mark.parametrize("device", ["agx-orin", "a100"])
def test_a_device_without_fp8_is_refused_by_name(
    exported: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    require_builder()
    assert_refused(run(capsys, "fp8", exported, "--device", device), "has no FP8")
