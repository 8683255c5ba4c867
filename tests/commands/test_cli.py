"""The commands as a user types them: what they print, what they leave behind, how they fail."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dualexport.clips.synthetic import render_pattern
from dualexport.core.files import hash_file
from dualexport.exporter.dualformer.network import DualFormer
from safetensors.torch import save_file
from support.cli import assert_refused, run

FILE_SIZE_LIMIT = 1_000_000  # bytes; the size-n graph has more


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


def test_onnx_leaves_a_graph_and_its_manifest(exported: Path) -> None:
    names = ["dualformer-n.fp16.onnx", "dualformer-n.fp32.onnx", "manifest.json"]
    left = sorted(path.name for path in exported.iterdir())
    assert [name for name in left if name != "reference.logits"] == names  # which other tests' runs of verify leave
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["model"] == {"size": "n", "classes": 400}
    assert manifest["weights"] == {"random": True, "seed": 0}
    assert manifest["preprocessing"]["frames"] == 16
    assert [artifact["precision"] for artifact in manifest["artifacts"]] == ["fp32", "fp16"]
    for artifact in manifest["artifacts"]:
        assert (artifact["format"], artifact["graph"]) == ("onnx", "folded")
        assert artifact["sha256"] == hash_file(exported / artifact["path"])
        assert artifact["inputs"] == [{"name": "clip", "dtype": "float32", "shape": [1, 3, 16, 224, 224]}]


@pytest.mark.slow
def test_a_checkpoint_is_exported_verified_and_classified(
    tmp_path: Path, nano: DualFormer, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, folder = tmp_path / "trained.pth", tmp_path / "out"
    state = {f"module.{name}": value for name, value in nano.state_dict().items()}
    state["module.backbone.token_linear.weight"] = torch.zeros(1)
    torch.save({"state_dict": state, "optimizer": {}}, checkpoint)

    export = ("onnx", "--checkpoint", checkpoint, "--output", folder, "--input", "uint8", "--precision", "fp32")
    code, out, err = run(capsys, *export, "--clips", video, "--views", 2, "--json")
    summary = json.loads(out)
    assert code == 0
    assert summary["random_weights"] is False
    (parity,) = summary["parity"]
    assert parity["clips"] == 2
    assert parity["largest_difference"] < 1e-4
    assert summary["gmacs_per_view"] == pytest.approx(5.1, rel=0.02)
    assert "left out, inference does not need it: optimizer, module.backbone.token_linear.weight" in err
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["weights"]["sha256"] == manifest["artifacts"][0]["parent"] == hash_file(checkpoint)

    code, out, _ = run(capsys, "verify", folder, "--clips", video, "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (0, True)
    assert report["reports"][0]["top1_agreement"] == 1.0
    assert report["reports"][0]["cosine"] == pytest.approx(1.0)

    code, out, _ = run(capsys, "predict", folder, video, "--json")
    (prediction,) = json.loads(out)["predictions"]
    assert (code, prediction["video"], prediction["views"]) == (0, "pattern.mp4", 4)
    probabilities = [item["probability"] for item in prediction["top"]]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)

    checkpoint.rename(tmp_path / "moved.pth")
    assert_refused(run(capsys, "verify", folder), "trained.pth: the checkpoint is not there any more")
    assert run(capsys, "verify", folder, "--checkpoint", tmp_path / "moved.pth")[0] == 0
    torch.save({"state_dict": {**nano.state_dict(), "cls_head.fc_cls.bias": torch.ones(400)}}, checkpoint)
    assert_refused(run(capsys, "verify", folder), "trained.pth is not the checkpoint that was exported")


def test_predict_names_classes_and_finds_the_only_export(
    exported: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"action {number}\n" for number in range(400)))
    monkeypatch.chdir(exported)
    code, out, _ = run(capsys, "predict", video, "--labels", labels)
    assert code == 0
    assert "pattern.mp4 (4 views)" in out
    assert out.count("action ") == 5


@pytest.mark.slow
def test_token_selection_goes_through_export_verify_and_predict(
    tmp_path: Path,
    nano: DualFormer,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nano.state_dict(), "trained.pth")
    arguments = ("onnx", "--checkpoint", "trained.pth", "--stts", "T0:0.5")
    assert_refused(run(capsys, *arguments), "trained.pth holds no selector for T0:0.5")
    assert [path.name for path in tmp_path.iterdir()] == ["trained.pth"]

    code, out, err = run(capsys, *arguments, "--untrained-selector", "--with-selection", "--json")
    summary = json.loads(out)
    assert code == 0
    names = [Path(file["path"]).name for file in summary["files"]]
    assert names == ["dualformer-n-T0_0.5.fp32.onnx", "dualformer-n-T0_0.5.fp16.onnx"]
    assert summary["selections"] == ["T0:0.5 keeps 4 x 56 x 56 of 8 x 56 x 56 tokens"]
    assert summary["untrained_selector"] is True
    assert summary["gmacs_per_view"] < 0.52 * 5.1
    assert "note: the selectors are random (seed 0)" in err
    manifest = json.loads(Path("dualformer-n-T0_0.5/manifest.json").read_text())
    assert manifest["weights"]["untrained_selector_seed"] == 0
    assert manifest["selections"] == [{"selection": "T0:0.5", "grid": [8, 56, 56], "kept": [4, 56, 56]}]
    assert [output["name"] for output in manifest["artifacts"][0]["outputs"]] == ["logits", "kept_frames"]

    code, out, _ = run(capsys, "verify", "--clips", video, "--json")
    assert (code, json.loads(out)["passed"]) == (0, True)
    code, out, _ = run(capsys, "predict", video, "--json")
    assert (code, json.loads(out)["artifact"]) == (0, "dualformer-n-T0_0.5.fp32.onnx")


def test_a_file_that_was_changed_fails_and_the_other_is_compared(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "dualformer-n.fp32.onnx"
    model = onnx.load(path)
    model.doc_string = "changed"
    onnx.save(model, path)
    code, out, err = run(capsys, "verify", copy)
    assert (code, "PASS" in out) == (1, True)
    assert "dualformer-n.fp32.onnx did not run: dualformer-n.fp32.onnx has changed since it was written" in err


@pytest.mark.slow
def test_unproven_files_do_not_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "out"
    result = run(capsys, "onnx", "--model", "n", "--output", folder, "--precision", "fp32", "--tolerance", 0)
    assert_refused(result, "differs from the PyTorch network")
    assert not folder.parent.exists()


@pytest.mark.slow
def test_a_failed_export_leaves_the_earlier_one_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in copy.iterdir()}
    other = ("onnx", "--model", "n", "--seed", 1, "--precision", "fp32", "--output", copy)
    assert run(capsys, *other, "--tolerance", 0)[0] == 1
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


def test_unreadable_videos_are_refused_or_skipped_and_listed(
    exported: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(video, tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert_refused(run(capsys, "verify", exported, "--clips", tmp_path), "bad.mp4 cannot be decoded")
    code, out, err = run(capsys, "verify", exported, "--clips", tmp_path, "--skip-unreadable", "--json")
    assert code == 0
    assert [skipped["name"] for skipped in json.loads(out)["skipped"]] == ["bad.mp4"]
    assert "note: skipped bad.mp4" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("onnx", "--checkpoint", "gone.pth"), "gone.pth: no such file"),
        (("onnx", "--model", "n", "--clips", "gone"), "gone: no such file or folder"),
        (("onnx", "--model", "n", "--stts", "half"), "'half' is not a token selection"),
        (("onnx", "--model", "n", "--stts", "S2:0.73"), "a region of 11 x 11 cannot be halved before stage 3"),
        (("onnx", "--model", "n", "--stts", "S2:0.74", "--with-selection"), "the network selects no frames"),
        (("onnx", "--model", "n", "--output", "file/out"), "cannot write file/out"),
        (("verify", "gone"), "gone/manifest.json: no such file"),
        (("verify",), "no exported network is here"),
        (("predict", "video.mp4"), "no exported network is here"),
        (("stream", "gone.mp4"), "gone.mp4: no such file"),
    ],
)
def test_bad_input_is_two_lines_and_exit_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    assert_refused(run(capsys, *arguments), words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("onnx",),
        ("onnx", "--model", "huge"),
        ("onnx", "--model", "n", "--opset", 21),
        ("onnx", "--model", "n", "--untrained-selector"),
        ("predict",),
        ("nothing",),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *arguments)[0] == 2


@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dualexport", "verify", str(tmp_path / "gone"), "--debug"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" in result.stderr
    assert "ManifestNotFoundError" in result.stderr


def test_clips_of_another_shape_are_refused(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "clips.npy", render_pattern(0, 8, 64, 64))
    result = run(capsys, "verify", exported, "--clips", tmp_path / "clips.npy")
    assert_refused(result, "clips.npy[0]: the clip is (3, 8, 224, 224)")


@pytest.mark.slow
def test_a_missing_extra_is_named_with_its_install_line(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from dualexport.cli import main; main(['onnx', '--model', 'n'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-2:] == [
        "error: `dualexport onnx` needs torch, which is not installed",
        'fix: pip install "dualexport[export]"',
    ]


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dualexport", "onnx", "--model", "n", "--output", str(tmp_path / "out")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE_LIMIT, FILE_SIZE_LIMIT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "error: cannot write" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_interrupting_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dualexport", "onnx", "--model", "n", "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("tracing"):
                break
        time.sleep(1)  # into the tracing
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_plan_prints_saves_and_compares(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT; without a GPU, scripts/install-cpu-tensorrt installs one")
    models, saved = (
        [exported / f"dualformer-n.{precision}.onnx" for precision in ("fp32", "fp16")],
        tmp_path / "plan.json",
    )
    code, out, _ = run(
        capsys, "plan", *models, "--device", "agx-orin", "--device", "rtx-4090", "--save", saved, "--json"
    )
    document = json.loads(out)
    assert code == 0
    assert json.loads(saved.read_text()) == document
    first, second = document["plans"]
    assert first["work_shares"]["fp32"] > 0.999
    assert second["work_shares"]["fp16"] > 0.999
    assert (first["fused_attentions"], second["fused_attentions"]) == (0, 8)
    assert [one["device"] for one in first["estimates"]] == ["agx-orin", "rtx-4090"]
    for before, after in zip(first["estimates"], second["estimates"], strict=True):
        assert before["estimated_ms"] > after["estimated_ms"] > 0


def test_lint_passes_what_onnx_wrote_and_names_what_it_refuses(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported / "dualformer-n.fp32.onnx"
    assert run(capsys, "lint", model)[0] == 0
    broken = onnx.load(model)
    node = next(node for node in broken.graph.node if len(node.input) == 1)
    node.op_type = "Det"  # which ONNX has, and no TensorRT reads
    del node.attribute[:]
    onnx.save(broken, tmp_path / "broken.onnx")
    code, out, _ = run(capsys, "lint", tmp_path / "broken.onnx", "--json")
    (finding,) = json.loads(out)["findings"]
    assert code == 1
    assert finding["node"] == node.name
    assert finding["fix"]
    assert_refused(run(capsys, "lint", tmp_path / "gone.onnx"), "gone.onnx")


def test_synth_writes_videos_that_their_list_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "synth", "--output", tmp_path / "videos", "--clips", 2, "--seed", 4, "--json")
    dataset = json.loads(out)["dataset"]
    assert code == 0
    assert dataset["clips_by_action"] == {"moving left": 1, "moving right": 1}
    names = [Path(video).name for video in dataset["videos"]]
    assert Path(dataset["labels"]).read_text().splitlines() == [
        "path,label",
        f"{names[0]},moving left",
        f"{names[1]},moving right",
    ]
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == [*names, "labels.csv"]


def test_synth_refuses_a_folder_that_cannot_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_refused(run(capsys, "synth", "--output", tmp_path / "file" / "videos"), "cannot write")


@pytest.mark.slow
def test_values_beyond_half_are_named_before_the_comparison_fails(
    capsys: pytest.CaptureFixture[str], nano: DualFormer, tmp_path: Path
) -> None:
    state = {name: value.clone() for name, value in nano.state_dict().items()}
    state["backbone.blocks.3.1.mlp.fc1.bias"] += 1e5
    save_file(state, tmp_path / "huge.safetensors")
    folder = tmp_path / "out"
    result = run(capsys, "onnx", "--checkpoint", tmp_path / "huge.safetensors", "--output", folder)
    assert_refused(result, "differs from the PyTorch network")
    notes = [line for line in result[2].splitlines() if line.startswith("note: overflows in half precision: ")]
    assert any("blocks.3.1.mlp" in note for note in notes)
    assert not folder.exists()
