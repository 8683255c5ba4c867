"""`dualexport trt` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from dualexport.core.files import hash_file
from support.cli import assert_refused, run
from support.engines import require_builder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


@pytest.mark.slow
def test_trt_builds_the_narrowest_file_and_lists_the_engine(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_builder()
    code, out, _ = run(capsys, "trt", copy)
    assert code == 0
    assert "100.0% fp16" in out
    assert "8 of 8" in out
    manifest = json.loads((copy / "manifest.json").read_text())
    fp32, fp16, engine = manifest["artifacts"]
    assert (engine["format"], engine["precision"]) == ("tensorrt", "fp16")
    assert engine["parent"] == fp16["sha256"]
    assert engine["sha256"] == hash_file(copy / engine["path"])

    code, out, _ = run(capsys, "trt", copy / fp32["path"], "--json")
    document = json.loads(out)
    assert code == 0
    assert document["engine"]["options"]["fp32_share"] > 0.999
    assert len(json.loads((copy / "manifest.json").read_text())["artifacts"]) == 4


@pytest.mark.slow
def test_trt_builds_a_file_that_no_manifest_lists(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_builder()
    (copy / "manifest.json").unlink()
    code, out, _ = run(capsys, "trt", copy / "dualformer-n.fp16.onnx", "--json")
    document = json.loads(out)
    assert (code, document["manifest"], document["engine"]["precision"]) == (0, None, "fp16")


def test_trt_refuses_what_it_cannot_build_and_leaves_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_builder()
    before = sorted(copy.iterdir())
    assert_refused(run(capsys, "trt", copy, "--int8"), "lists no int8 ONNX file")
    assert_refused(run(capsys, "trt", copy / "dualformer-n.fp32.onnx", "--fp16"), "is fp32, fp16 was asked for")
    assert_refused(run(capsys, "trt", copy / "gone.onnx"), "gone.onnx")
    model = onnx.load(copy / "dualformer-n.fp16.onnx")
    model.opset_import[0].version = 26
    onnx.save(model, copy / "new.onnx")
    assert_refused(run(capsys, "trt", copy / "new.onnx"), "opset 26; TensorRT 11 reads 9 to 25")
    (copy / "new.onnx").unlink()
    (copy / "dualformer-n.fp16.onnx").write_bytes(b"changed")
    assert_refused(run(capsys, "trt", copy, "--fp16"), "has changed since it was written")
    assert sorted(copy.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--fp16", "--int8"),
        ("--target", "ampere"),
        ("--optimization-level", 6),
        ("--timing-cache", "dualformer-n.fp32.onnx"),
        ("--clips", "videos"),
    ],
)
def test_wrong_usage_of_trt_exits_2(
    exported: Path, arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "trt", exported, *arguments)[0] == 2


def test_clips_calibrate_a_folder_and_not_one_file(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "trt", exported / "dualformer-n.fp16.onnx", "--int8", "--clips", "videos")
    assert (code, "name the folder, not dualformer-n.fp16.onnx" in err) == (2, True)


@pytest.mark.slow
def test_interrupting_a_build_leaves_nothing_behind(copy: Path) -> None:
    require_builder()
    before = sorted(copy.iterdir())
    command = [sys.executable, "-m", "dualexport", "trt", str(copy), "--fp32"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("compiling"):
                break
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert sorted(copy.iterdir()) == before
