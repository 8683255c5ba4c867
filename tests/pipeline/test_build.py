"""An engine is built, proven and listed in one step, or not at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from dualexport.core.choices import Method, Precision
from dualexport.core.errors import OutputError, QuantizationError
from dualexport.core.manifest import read_manifest, write_manifest
from dualexport.pipeline.build import BuildOptions, build, calibrate
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.quantize import QuantizeOptions
from support.engines import require_builder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, to be changed."""
    require_builder()
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


def test_a_folder_s_engine_is_listed_and_its_notes_and_progress_are_told(copy: Path) -> None:
    tasks: list[str] = []
    notes: list[str] = []
    built = build(
        copy, BuildOptions(precision=Precision.FP16), progress=lambda task, *_: tasks.append(task), notify=notes.append
    )
    assert read_manifest(copy).artifacts[-1] == built.engine
    assert (built.manifest, built.expected) == (copy / "manifest.json", None)
    assert any(task.startswith("compiling dualformer-n.fp16.onnx") for task in tasks)
    assert not any("overflow" in note for note in notes)


def test_an_artifact_names_its_own_file(copy: Path) -> None:
    fp32 = read_manifest(copy).artifacts[0]
    assert build(fp32).engine.parent == fp32.sha256


def test_an_engine_whose_manifest_cannot_be_written_does_not_stay(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "manifest.json")

    monkeypatch.setattr("dualexport.core.manifest.write_manifest", refuse)
    before = {path: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(OutputError, match=r"manifest\.json: Permission denied"):
        build(copy)
    left = {path: path.read_bytes() for path in copy.iterdir() if path.suffix != ".cache"}
    assert left == before


def test_a_folder_that_cannot_be_written_is_found_out_before_the_work(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(copy))

    monkeypatch.setattr("dualexport.core.files.tempfile.mkdtemp", refuse)
    monkeypatch.setattr("dualexport.runtimes.tensorrt.build.compile_engine", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(OutputError, match="Permission denied"):
        build(copy)


def test_clips_calibrate_by_the_settings_of_the_int8_file_that_is_there(
    exported: Path, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "dualformer-n"))
    asked: list[QuantizeOptions] = []

    def record(_: Path, clips: Clips, options: QuantizeOptions, **__: object) -> None:
        asked.append(options)
        raise QuantizationError(str(clips.source), fix="")

    monkeypatch.setattr("dualexport.pipeline.quantize.quantize", record)
    with pytest.raises(QuantizationError, match=video.name):
        calibrate(copy, video)
    manifest = read_manifest(copy)
    int8 = replace(
        manifest.artifacts[1],
        precision=Precision.INT8,
        path=copy / "dualformer-n.int8.onnx",
        options={"base": "fp16", "method": "mse", "kept": "blocks.0.0.mlp.fc1,head"},
    )
    write_manifest(manifest.with_artifact(int8), manifest.path)
    with pytest.raises(QuantizationError):
        calibrate(copy, video)
    assert asked == [QuantizeOptions(), QuantizeOptions(Method.MSE, keep=("blocks.0.0.mlp.fc1", "head"), place="all")]
