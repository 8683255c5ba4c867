"""`dualexport verify` as a user types it: labels, limits, references, and artifacts that do not run."""

from __future__ import annotations

import json
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from dualexport.clips.labels import label_videos
from dualexport.clips.listing import Video
from dualexport.clips.source import ClipSource
from dualexport.core.errors import LabelError, ManifestError
from dualexport.core.files import hash_file
from dualexport.core.manifest import read_manifest
from dualexport.pipeline.verify.inputs import find_networks, select_artifacts
from support.cli import assert_refused, run


@pytest.fixture
def labelled(tmp_path: Path, video: Path) -> Path:
    """A folder with two videos, and a list of their labels beside it."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, folder / name)
    (tmp_path / "labels.csv").write_text("path,label\nvideos/a.mp4,7\nvideos/b.mp4,8\n")
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The exported folder, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "dualformer-n"))


def test_labels_limits_and_what_is_compared(
    exported: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("[fp16]\nsnr_db = 200\n")
    arguments = ("verify", exported, "--clips", labelled, "--labels", tmp_path / "labels.csv", "--against", "fp16")
    reports = [tmp_path / "out" / name for name in ("r.html", "r.md", "r.json", "r.xml")]
    written = [part for path in reports[:3] for part in ("--report", path)]
    code, out, err = run(capsys, *arguments, "--limits", limits, *written, "--junit", reports[3], "--json")
    document = json.loads(out)
    page, text, saved, junit = (path.read_text() for path in reports)
    assert json.loads(saved) == document
    assert page.count("data:image/jpeg;base64,") == 2
    assert ("Do not ship" in page, "do not ship" in text, "snr db" in junit) == (True, True, True)
    assert (code, document["passed"], document["decision"]["ship"]) == (1, False, False)
    assert "snr db" in err.splitlines()[-2]
    (report,) = document["reports"]
    assert report["artifact"] == "dualformer-n.fp16.onnx"
    assert [check["name"] for check in report["checks"] if not check["passed"]] == ["snr_db"]
    assert (report["clips"], report["accuracy"]["top1"]["total"]) == (2, 2)
    assert report["paired"]["p_value"] == 1.0
    assert [(one["index"], one["clips"]) for one in report["thresholds"]["classes"]] == [(7, 1), (8, 1)]
    assert report["thresholds"]["toml"].startswith("[classes]\n")
    assert report["thresholds"]["toml"] in unescape(page)
    assert document["reference"]["labelled"] == 2
    assert any("1 artifacts of the manifest were left out" in line for line in document["decision"]["caveats"])


@pytest.mark.slow
def test_names_as_labels_of_a_network_without_class_names_leave_accuracy_unknown(
    copy: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.csv").write_text("path,label\nvideos/a.mp4,run\nvideos/b.mp4,8\n")
    page = tmp_path / "report.html"
    given = ("verify", copy, "--clips", labelled, "--labels", tmp_path / "names.csv", "--against", "fp32", "--json")
    code, out, err = run(capsys, *given, "--report", page)
    document = json.loads(out)
    assert (code, document["reference"]["accuracy"]) == (0, None)
    assert "note: the labels are names, and the network was exported without class names" in err
    assert any(caveat.endswith("accuracy was not") for caveat in document["decision"]["caveats"])
    assert "Not known: the labels are names, and the network" in page.read_text()

    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "labels": [f"action {n}" for n in range(400)]}))
    assert_refused(run(capsys, *given), "the label 'run' is no class of the network: it is none of its class names")


@pytest.mark.slow
def test_several_folders_are_compared_each_with_its_own_network_and_reported_together(
    exported: Path, copy: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "bench", exported, copy, "--against", "fp16", "--seconds", 0.1, "--rounds", 2)[0] == 0
    assert (exported / "bench.json").read_text() == (copy / "bench.json").read_text()
    (exported / "bench.json").unlink()  # other tests read this folder
    clips = ("--clips", labelled, "--labels", tmp_path / "labels.csv")
    arguments = ("verify", exported, copy, *clips, "--against", "fp16")
    code, out, _ = run(capsys, *arguments, "--report", tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    assert (code, document["passed"]) == (0, True)
    assert [network["folder"] for network in document["networks"]] == [str(exported), str(copy)]
    assert document["decision"]["reasons"] == ["the weights are random: this is no trained network"]
    assert document["networks"][1]["latency"]["results"][1]["ratio"]["median"] > 0
    overview = out[out.index("All artifacts") :]
    assert f"{copy}/dualformer-n.fp16.onnx" in overview
    assert "0.0% (0.0% to 65.8%)" in overview, "accuracy of two videos, none right"

    (copy / "dualformer-n.fp16.onnx").write_bytes(b"")
    code, _, err = run(capsys, *arguments)
    assert (code, "dualformer-n.fp16.onnx has changed" in err) == (1, True)


def test_a_network_without_token_selection_comes_first(exported: Path, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    selections = [{"selection": "T0:0.5", "grid": [8, 56, 56], "kept": [4, 56, 56]}]
    (copy / "manifest.json").write_text(json.dumps({**manifest, "selections": selections}))
    assert [network.folder for network in find_networks([copy, exported, copy])] == [exported, copy]


def test_a_file_that_is_no_network_fails_and_the_other_is_compared(
    copy: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "dualformer-n.fp32.onnx"
    path.write_bytes(b"no graph")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["artifacts"][0]["sha256"] = hash_file(path)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    code, out, err = run(capsys, "verify", copy, "--clips", video)
    assert code == 1
    assert "dualformer-n.fp32.onnx did not run" in err
    results = {
        line.split()[0]: line.split()[-1] for line in out.splitlines() if "agreement" not in line and ".onnx" in line
    }
    assert results["dualformer-n.fp16.onnx"] == "PASS"


def test_without_the_trained_network_the_fp32_file_is_the_reference(
    exported: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", exported, "--clips", video, "--reference", "onnx", "--json")
    assert code == 0
    assert "note: the reference is dualformer-n.fp32.onnx, not the trained network" in err
    assert json.loads(out)["reference"]["name"].startswith("ONNX Runtime")


def test_artifacts_are_chosen_by_precision_or_name(exported: Path) -> None:
    manifest = read_manifest(exported)
    first, second = manifest.artifacts
    assert select_artifacts(manifest, "all") == (first, second)
    assert select_artifacts(manifest, "fp16, dualformer-n.fp32.onnx,fp16") == (second, first)
    with pytest.raises(ManifestError, match="no artifact 'int8'"):
        select_artifacts(manifest, "fp32,int8")


def test_limits_and_labels_that_do_not_fit_are_refused_before_work(
    exported: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("path,label\nz.mp4,1\n")
    (tmp_path / "bad.toml").write_text("[fp16]\ncosin = 1\n")
    clips = ("verify", exported, "--clips", labelled)
    assert_refused(run(capsys, *clips, "--labels", tmp_path / "other.csv"), "labels none of the 2 videos")
    assert_refused(run(capsys, *clips, "--limits", tmp_path / "bad.toml"), "cosin is not a limit")
    code, _, err = run(capsys, *clips, "--report", tmp_path / "report.pdf")
    assert (code, "report.pdf ends in none of .html" in " ".join(err.split())) == (2, True)
    code, _, err = run(capsys, "verify", exported, "--labels", tmp_path / "labels.csv")
    assert (code, "no clips were given" in err) == (2, True)


def test_labels_are_put_to_videos_by_name_or_by_an_unmistakable_file_name(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("x/a.mp4,run\ny/a.mp4,sit\nb.mp4,jump\n")
    videos = [Video(tmp_path / name, name, "old") for name in ("x/a.mp4", "a.mp4", "deep/b.mp4", "c.mp4")]
    assert [video.label for video in label_videos(videos, tmp_path / "labels.csv")] == ["run", "old", "jump", "old"]
    with pytest.raises(LabelError):
        label_videos(videos[3:], tmp_path / "labels.csv")


def test_a_source_with_other_videos_leaves_the_first_alone(labelled: Path) -> None:
    source = ClipSource(labelled, SimpleNamespace())  # type: ignore[arg-type]  # nothing is read
    part = source.of(source.videos[1:])
    assert ([video.name for video in part.videos], len(source.videos)) == (["b.mp4"], 2)
